package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/weirline/weirline/internal/fault"
)

const redacted = "[redacted]"

// Secret is a value that doesn't show itself: it prints, logs and encodes as "[redacted]", also inside other values. The
// zero value is an absent secret.
type Secret struct {
	value func() string // in a closure, where reflection doesn't get at it
}

// Reveal is the value, "" if the secret is absent.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return s.value()
}

// IsSet says whether there is a value.
func (s Secret) IsSet() bool { return s.value != nil }

// String is "[redacted]".
func (s Secret) String() string { return redacted }

// Format writes "[redacted]" for every verb.
func (s Secret) Format(f fmt.State, _ rune) {
	io.WriteString(f, redacted) //nolint:errcheck // fmt has nowhere to report it to
}

// LogValue is "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText gives "[redacted]", in JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// SecretFlag declares a flag for a secret, to be used in App.Flags. On the command line it takes @file only; its
// environment twin takes the value or @file. The result is filled by the time Build is called.
func SecretFlag(fs *flag.FlagSet, name, usage string) *Secret {
	v := &secretFlag{name: name}
	fs.Var(v, name, usage)
	return &v.secret
}

// secretFlag is the flag.Value of a secret.
type secretFlag struct {
	name    string
	secret  Secret
	hide    func(string)
	fromEnv bool
	err     error // of the last Set
}

// String is what -help would show as the default.
func (v *secretFlag) String() string { return "" }

// Set takes @file, or the value itself from the environment.
func (v *secretFlag) Set(s string) error {
	if !v.fromEnv && !strings.HasPrefix(s, "@") {
		v.hide(s)
		v.err = fault.New(fault.Usage, "flag -%s: a secret on the command line can be read by everybody on this machine", v.name).
			WithFix("give @ and the name of a file, or use the environment variable")
		return v.err
	}
	v.secret, v.err = readSecret(s, v.hide)
	if v.err != nil && !v.fromEnv {
		v.err = fault.At(v.err, "flag -"+v.name)
	}
	return v.err
}

// readSecret takes a value, @file, or @@ and a value that begins with @. One newline at the end of a file isn't part of it.
func readSecret(s string, hide func(string)) (Secret, error) {
	if name, ok := strings.CutPrefix(s, "@"); ok && !strings.HasPrefix(name, "@") {
		b, err := os.ReadFile(name)
		if err != nil {
			return Secret{}, fault.Wrap(fault.NoSecret, err, "read secret").WithFix("check that the file exists and that this user may read it")
		}
		s = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
		if s == "" {
			return Secret{}, fault.New(fault.NoSecret, "file %s is empty", name).WithFix("write the secret into the file")
		}
	} else if ok {
		s = name
	}
	hide(s)
	return Secret{value: func() string { return s }}, nil
}

// redactor cuts secrets out of text.
type redactor struct {
	mu    sync.RWMutex
	forms []string
}

// shortest is the length from which a secret can be told from ordinary text.
const shortest = 4

// hide adds a secret, in all forms it may have in text: as it is, quoted, and in JSON and addresses.
func (r *redactor) hide(s string) {
	if len(s) < shortest {
		return
	}
	forms := []string{s, strings.Trim(strconv.Quote(s), `"`), url.QueryEscape(s), url.PathEscape(s)}
	if b, err := json.Marshal(s); err == nil {
		forms = append(forms, string(bytes.Trim(b, `"`)))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range forms {
		if !slices.Contains(r.forms, f) {
			r.forms = append(r.forms, f)
		}
	}
	slices.SortStableFunc(r.forms, func(a, b string) int { return len(b) - len(a) }) // what contains another goes first
}

// text is s without secrets.
func (r *redactor) text(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, f := range r.forms {
		s = strings.ReplaceAll(s, f, redacted)
	}
	return s
}

// writer cuts secrets out of what is written to w. Each Write must be whole: lines of logs are.
func (r *redactor) writer(w io.Writer) io.Writer { return &redactedWriter{r: r, w: w} }

type redactedWriter struct {
	r *redactor
	w io.Writer
}

func (w *redactedWriter) Write(b []byte) (int, error) {
	if _, err := io.WriteString(w.w, w.r.text(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}
