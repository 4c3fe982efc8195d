package cli

import (
	"fmt"
	"reflect"
	"runtime/debug"
	"strings"
)

// version is the line -version prints.
func version(a App) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return strings.TrimSpace(a.Name + " " + a.Version)
	}
	v := a.Version
	if v == "" {
		v = info.Main.Version
	}
	if v == "" || v == "(devel)" {
		v = "development"
	}
	parts := []string{"weirline " + moduleVersion(info)}
	rev, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = " modified"
		}
	}
	if rev != "" {
		parts = append(parts, "revision "+rev+dirty)
	}
	return fmt.Sprintf("%s %s (%s, %s)", a.Name, v, strings.Join(parts, ", "), info.GoVersion)
}

// moduleVersion is the version of this module in the binary.
func moduleVersion(info *debug.BuildInfo) string {
	own := reflect.TypeFor[App]().PkgPath()
	for _, m := range info.Deps {
		if strings.HasPrefix(own, m.Path+"/") {
			return m.Version
		}
	}
	return "development"
}
