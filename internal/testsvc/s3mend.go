package testsvc

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Where versitygw keeps uploads, below a bucket, and what it calls those that are being completed: <id>.<ETag>.inprogress, below a
// folder named by the hash of the object's key.
const (
	s3Uploads    = ".sgwtmp/multipart"
	s3InProgress = ".inprogress"
)

// mend does after a kill what a store that survives crashes would do. The release that is tested doesn't: an upload that was being
// completed is answered with success for ever, and its object never appears. Here it is as if the request hadn't come, or, if the object is
// there, had been done.
func (s *S3Server) mend() error {
	bucket := filepath.Join(s.Dir, "data", S3Bucket)
	stuck, err := filepath.Glob(filepath.Join(bucket, s3Uploads, "*", "*"+s3InProgress))
	if err != nil || len(stuck) == 0 {
		return err
	}
	there := map[string]bool{}
	err = filepath.WalkDir(bucket, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == filepath.Dir(s3Uploads):
			return filepath.SkipDir
		case !d.IsDir():
			key, err := filepath.Rel(bucket, path)
			there[fmt.Sprintf("%x", sha256.Sum256([]byte(filepath.ToSlash(key))))] = true
			return err
		}
		return nil
	})
	for _, dir := range stuck {
		id, _, _ := strings.Cut(filepath.Base(dir), ".")
		if there[filepath.Base(filepath.Dir(dir))] {
			err = errors.Join(err, os.RemoveAll(dir))
		} else {
			err = errors.Join(err, os.Rename(dir, filepath.Join(filepath.Dir(dir), id)))
		}
	}
	if err != nil {
		return fmt.Errorf("mend uploads after a kill: %w", err)
	}
	return nil
}
