package objects

import (
	"net/url"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/s3client"
	"github.com/weirline/weirline/sink/parts"
)

// wrong is a mistake in a sink's settings.
func wrong(fix, what string, args ...any) error {
	return fault.New(fault.BadPipeline, "objects: "+what, args...).WithFix("%s", fix)
}

// checkPlace says what is wrong with the settings that say where objects go, and who writes them.
func checkPlace(bucket, prefix string, c s3client.Options) []error {
	var errs []error
	bad := func(fix, what string, args ...any) { errs = append(errs, wrong(fix, what, args...)) }
	if bucket == "" || strings.ContainsAny(bucket, "/:") {
		bad("set Bucket to the bucket's name alone, and the rest as Prefix and Endpoint", "Bucket is %q", bucket)
	}
	if len(prefix) > maxPrefix || parts.CheckPath(strings.Trim(prefix, "/")) != nil {
		bad("give names with single slashes between them", "Prefix is %.600q", prefix)
	}
	if u, err := url.Parse(c.Endpoint); c.Endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil) {
		bad("write http://host:port or https://host; keys belong in AccessKey and SecretKey", "Endpoint isn't a server's URL")
	}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		bad("set both, or none", "one of AccessKey and SecretKey is missing")
	}
	return errs
}

// underPrefix is what keys begin with.
func underPrefix(prefix string) string {
	if p := strings.Trim(prefix, "/"); p != "" {
		return p + "/"
	}
	return ""
}
