package engine

import (
	"fmt"
	"reflect"
)

// checkExchange refuses record types that could never leave the process: functions, channels, unsafe pointers and bare
// interfaces, wherever they are inside. Such a pipeline would work today and could not be moved tomorrow.
func (p *Pipeline) checkExchange(t reflect.Type) {
	if err := portable(t, t.String(), map[reflect.Type]bool{}); err != nil {
		p.typeErrorf(err, "records of type %s can't be exchanged between tasks", t)
	}
}

func portable(t reflect.Type, path string, seen map[reflect.Type]bool) error {
	if seen[t] {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.UnsafePointer, reflect.Interface:
		return fmt.Errorf("%s is a %s", path, t.Kind())
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return portable(t.Elem(), path+" element", seen)
	case reflect.Map:
		if err := portable(t.Key(), path+" key", seen); err != nil {
			return err
		}
		return portable(t.Elem(), path+" element", seen)
	case reflect.Struct:
		if hasBinary(t) {
			return nil
		}
		for i := range t.NumField() {
			f := t.Field(i)
			if err := portable(f.Type, path+"."+f.Name, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasBinary says whether a type writes and reads itself, as time.Time does.
func hasBinary(t reflect.Type) bool {
	_, m := reflect.PointerTo(t).MethodByName("MarshalBinary")
	_, u := reflect.PointerTo(t).MethodByName("UnmarshalBinary")
	return m && u
}
