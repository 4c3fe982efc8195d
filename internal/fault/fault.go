// Package fault is the one form in which weirline reports what went wrong: a stable code, where it happened, the cause,
// and what to do.
//
//	return fault.Wrap(fault.BadPosition, err, "decode position of split %q", id)
//
// Every code is declared in codes.go with its fix; docs/errors.md is generated from that list. The engine adds the
// operator; everybody else returns the error as it is. Codes never change their meaning.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Code is a kind of error with its number and its fix. Codes are declared in codes.go only.
type Code struct {
	ID    string // "WL1203"
	Title string // what happened, in general
	Fix   string // what to do, an imperative sentence
}

// Error is an error with a code.
type Error struct {
	Code  Code
	Where string // operator, split or file; may be empty
	What  string // what happened, in particular
	Fix   string // overrides Code.Fix if not empty
	Err   error  // cause; may be nil
}

// New makes an error of a code.
func New(c Code, format string, args ...any) *Error {
	return &Error{Code: c, What: fmt.Sprintf(format, args...)}
}

// Wrap makes an error of a code with a cause. A nil cause gives an error all the same.
func Wrap(c Code, err error, format string, args ...any) *Error {
	return &Error{Code: c, What: fmt.Sprintf(format, args...), Err: err}
}

// Ensure wraps an error unless it has a code: the one who gave it knows more.
func Ensure(c Code, err error, format string, args ...any) error {
	if CodeOf(err) != "" {
		return err
	}
	return Wrap(c, err, format, args...)
}

// At says where it happened and returns e.
func (e *Error) At(where string) *Error {
	e.Where = where
	return e
}

// WithFix replaces the code's general fix by a particular one and returns e.
func (e *Error) WithFix(format string, args ...any) *Error {
	e.Fix = fmt.Sprintf(format, args...)
	return e
}

// Error is "WL1203 where: what: cause; fix: sentence". If the cause has a code of its own, its fix is the one: it knows more.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Code.ID)
	if e.Where != "" {
		b.WriteString(" " + e.Where)
	}
	b.WriteString(": " + e.What)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
		if strings.Contains(e.Err.Error(), fixMark) {
			return b.String()
		}
	}
	if fix := e.fix(); fix != "" {
		b.WriteString(fixMark + fix)
	}
	return b.String()
}

const fixMark = "; fix: "

func (e *Error) fix() string {
	if e.Fix != "" {
		return e.Fix
	}
	return e.Code.Fix
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, target) hold for any two errors of one code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code.ID == e.Code.ID
}

// CodeOf is the ID of the outermost code in err, or "".
func CodeOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code.ID
	}
	return ""
}

// At says where err happened if it is an Error that doesn't know yet, and prefixes any other error with where.
func At(err error, where string) error {
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Where == "" {
			e.Where = where
		}
		return err
	}
	return fmt.Errorf("%s: %w", where, err)
}
