package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/internal/fault"
)

const claimName = "claim"

// claimInfo is the content of the claim file: for people, and for a holder to see that it still is one.
type claimInfo struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
	Run   string    `json:"run"`
	Job   string    `json:"job"`
	ID    string    `json:"id"` // random
}

// takeClaim locks the directory for the process' life and says in it who holds it.
func takeClaim(fsys FS, dir string, o Options) (Claim, claimInfo, error) {
	name := filepath.Join(dir, claimName)
	c, err := fsys.Lock(name)
	if errors.Is(err, ErrLocked) {
		return nil, claimInfo{}, claimHeld(fsys, dir)
	}
	if err != nil {
		return nil, claimInfo{}, fault.Wrap(fault.StateDir, err, "claim state directory %s", dir)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	info := claimInfo{PID: os.Getpid(), Host: host, Since: time.Now().UTC(), Run: o.Run, Job: o.Job, ID: rand.Text()}
	if info.Run == "" {
		info.Run = info.ID
	}
	b, err := json.Marshal(info)
	if err == nil {
		err = c.Replace(append(b, '\n'))
	}
	if err != nil {
		err = errors.Join(err, c.Close())
		return nil, claimInfo{}, fault.Wrap(fault.StateDir, err, "write claim of state directory %s", dir)
	}
	return c, info, nil
}

// noClaim is that of a directory opened for reading only.
type noClaim struct{}

func (noClaim) Close() error         { return nil }
func (noClaim) Replace([]byte) error { return nil }

func readClaim(fsys FS, dir string) (claimInfo, error) {
	var info claimInfo
	b, err := durable.ReadFile(fsys, filepath.Join(dir, claimName))
	if err != nil {
		return info, err
	}
	return info, json.Unmarshal(b, &info)
}

func claimHeld(fsys FS, dir string) error {
	h, err := readClaim(fsys, dir)
	if err != nil { // its holder is writing it just now
		return fault.New(fault.ClaimHeld, "state directory %s is held by another process", dir)
	}
	return fault.New(fault.ClaimHeld, "state directory %s is held by process %d on %s since %s (job %q, run %s)",
		dir, h.PID, h.Host, h.Since.Format(time.RFC3339), h.Job, h.Run)
}

// held is called before anything decisive is written. A lock can't be lost while the process lives, but the directory
// can be deleted or moved under it, and made anew by another copy.
func (d *Dir) held() error {
	if d.o.ReadOnly {
		return fault.New(fault.StateDir, "write to %s: it was opened for reading only", d.root)
	}
	if d.closed.Load() {
		return fault.Wrap(fault.StateDir, fs.ErrClosed, "use state directory %s", d.root)
	}
	h, err := readClaim(d.fs, d.root)
	if err == nil && h.ID == d.self.ID {
		return nil
	}
	if err == nil {
		return claimHeld(d.fs, d.root)
	}
	return fault.Wrap(fault.ClaimHeld, err, "the claim of state directory %s was taken away", d.root).
		WithFix("don't delete or move the directory of a running job; restart it")
}
