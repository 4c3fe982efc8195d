package files

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// disk is the directory of a sink. Names are paths below it, with slashes.
type disk struct {
	dir  string
	fail func(op, name string) error // for tests: asked before each operation that changes something or makes it durable; a rename has both names
}

func (d disk) at(name string) string { return filepath.Join(d.dir, filepath.FromSlash(name)) }

func (d disk) do(op, name string, f func() error) error {
	if d.fail != nil {
		if err := d.fail(op, name); err != nil {
			return err
		}
	}
	return f()
}

// create makes a new file.
func (d disk) create(name string) (f *os.File, _ error) {
	return f, d.do("create", name, func() (err error) {
		f, err = os.OpenFile(d.at(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		return err
	})
}

// sync puts a file's bytes on the disk and closes it, also after an error.
func (d disk) sync(f *os.File, name string) error {
	err := d.do("sync", name, f.Sync)
	return errors.Join(err, f.Close())
}

// mkdir makes one directory, which mustn't exist.
func (d disk) mkdir(name string) error {
	return d.do("mkdir", name, func() error { return os.Mkdir(d.at(name), 0o755) })
}

// mkdirs makes the directories of a path below base, which must exist.
func (d disk) mkdirs(base, below string) error {
	if below == "" {
		return nil
	}
	if info, err := os.Stat(d.at(path.Join(base, below))); err == nil && info.IsDir() {
		return nil
	}
	if up := path.Dir(below); up != "." {
		if err := d.mkdirs(base, up); err != nil {
			return err
		}
	}
	err := d.mkdir(path.Join(base, below))
	if errors.Is(err, fs.ErrExist) {
		info, serr := os.Stat(d.at(path.Join(base, below)))
		if serr == nil && info.IsDir() {
			return nil // another task was faster
		}
	}
	return err
}

// size is how many bytes a file has. The error matches fs.ErrNotExist if there is none.
func (d disk) size(name string) (int64, error) {
	info, err := os.Lstat(d.at(name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// exists says whether there is something of that name.
func (d disk) exists(name string) (bool, error) {
	_, err := d.size(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (d disk) rename(from, to string) error {
	return d.do("rename", from+" "+to, func() error { return os.Rename(d.at(from), d.at(to)) })
}

// remove takes away a file, or a directory with all it has. Nothing there is fine.
func (d disk) remove(name string) error {
	return d.do("remove", name, func() error { return os.RemoveAll(d.at(name)) })
}

// syncDirs makes what was made, renamed or removed in directories below base survive a crash, and in those above them up to base.
func (d disk) syncDirs(base string, dirs map[string]bool) error {
	all := map[string]bool{base: true}
	for dir := range dirs {
		for ; dir != "" && dir != "."; dir = path.Dir(dir) {
			all[path.Join(base, dir)] = true
		}
	}
	for dir := range all {
		if err := d.do("syncdir", dir, func() error { return syncDir(d.at(dir)) }); err != nil {
			return err
		}
	}
	return nil
}
