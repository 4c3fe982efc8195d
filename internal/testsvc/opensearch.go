package testsvc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// openSearchVersion is the release that scripts/deps.sh puts into the cache directory.
const openSearchVersion = "2.19.6"

// openSearchStartTimeout bounds one start, on a machine that is busy with other tests.
const openSearchStartTimeout = 90 * time.Second

// OpenSearchOptions are the settings of one node. The zero value is a node without authentication.
type OpenSearchOptions struct {
	// Heap is how much memory the node gets, as java writes it ("1g"), for benchmarks: it then is also compiled for speed, and
	// starts slower. Unset: 512m, and a fast start.
	Heap string
	// Settings are node settings on top of (or instead of) the defaults.
	Settings map[string]string
}

// OpenSearchServer is a cluster of one node of its own, without plugins: documents can be written, read and searched. What it
// acknowledged is synced to the disk, so a Kill loses nothing.
type OpenSearchServer struct {
	// URL is http://host:port. It stays the same over Kill and Restart.
	URL string
	// Dir holds the data and opensearch.log.
	Dir string

	o    OpenSearchOptions
	jars string
	port int
	proc *proc
}

// StartOpenSearch starts a node with its data under dir, which is created if absent and isn't removed by Stop. Data of an earlier
// node in dir is there again. It blocks until the node answers, ctx ends or 90 s have passed. ctx doesn't end the node: call Stop.
func StartOpenSearch(ctx context.Context, dir string, o OpenSearchOptions) (*OpenSearchServer, error) {
	jars, err := openSearchJars()
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("start opensearch: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "config"), 0o755); err != nil {
		return nil, fmt.Errorf("start opensearch: create directory: %w", err)
	}
	for {
		port, err := freePort()
		if err != nil {
			return nil, fmt.Errorf("start opensearch: %w", err)
		}
		s := &OpenSearchServer{URL: "http://" + hostPort(port), Dir: dir, o: o, jars: jars, port: port}
		if err = s.Restart(ctx); err == nil {
			return s, nil
		}
		s.Kill()
		if !errors.Is(err, errAddrInUse) {
			return nil, fmt.Errorf("start opensearch in %s: %w", dir, err)
		}
	}
}

// openSearchJars is where scripts/deps.sh puts the node.
func openSearchJars() (string, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", fmt.Errorf("find java for opensearch: %w; run `make deps`", err)
	}
	cache, err := cacheDir()
	if err != nil {
		return "", fmt.Errorf("find opensearch: %w", err)
	}
	jars := filepath.Join(cache, "opensearch-"+openSearchVersion)
	if _, err := os.Stat(jars); err != nil {
		return "", fmt.Errorf("find opensearch: %w; run `make deps`", err)
	}
	return jars, nil
}

// Kill ends the node as a crash would, with SIGKILL, and returns when it is gone. Nothing happens if it has ended.
func (s *OpenSearchServer) Kill() {
	if s.proc != nil {
		s.proc.kill()
	}
}

// Stop ends the node in an orderly way, also when it is paused.
func (s *OpenSearchServer) Stop() {
	if s.proc != nil {
		s.proc.stop()
	}
}

// Pause freezes the node with SIGSTOP: connections stay open and get no answer. Elsewhere than on Linux it returns an error
// that is [errors.ErrUnsupported].
func (s *OpenSearchServer) Pause() error { return s.proc.signal(sigStop) }

// Resume lets a paused node go on.
func (s *OpenSearchServer) Resume() error { return s.proc.signal(sigCont) }

// Restart starts the node again after Kill or Stop, with the same data and at the same address. It blocks until the node answers and
// has its indices back, ctx ends or 90 s have passed.
func (s *OpenSearchServer) Restart(ctx context.Context) error {
	transport, err := freePort()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("node-%x", rand.Uint64()) // so that no other node is taken for this one
	settings := map[string]string{
		"path.home": s.Dir, "node.name": name, "cluster.name": "weirline", "discovery.type": "single-node",
		"network.host": "127.0.0.1", "http.port": strconv.Itoa(s.port), "transport.port": strconv.Itoa(transport),
		"cluster.routing.allocation.disk.threshold_enabled": "false",
	}
	maps.Copy(settings, s.o.Settings)
	args := append(s.jvm(), "-cp", filepath.Join(s.jars, "*"), "TestNode")
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, k+"="+settings[k])
	}
	log := filepath.Join(s.Dir, "opensearch.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("restart opensearch: %w", err)
	}
	p, err := startProc(log, "java", args...)
	if err != nil {
		return err
	}
	s.proc = p
	ctx, cancel := context.WithTimeout(ctx, openSearchStartTimeout)
	defer cancel()
	return p.ready(ctx, func(ctx context.Context) error { return s.ping(ctx, name) })
}

// jvm is tuned for a fast start and little memory, not for speed, unless a heap is set. The class archive is used if it is there and
// fits.
func (s *OpenSearchServer) jvm() []string {
	if s.o.Heap != "" {
		return []string{"-Xms" + s.o.Heap, "-Xmx" + s.o.Heap, "-XX:+UseG1GC"}
	}
	return []string{
		"-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Xshare:auto", "-XX:SharedArchiveFile=" + filepath.Join(s.jars, "classes.jsa"),
	}
}

// ping makes sure that it is this node that answers and that its indices can be used.
func (s *OpenSearchServer) ping(ctx context.Context, name string) error {
	if c, err := net.DialTimeout("tcp", hostPort(s.port), time.Second); err != nil {
		return err
	} else if err := c.Close(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var node struct{ Name string }
	if err := s.Ask(ctx, http.MethodGet, "/", nil, &node); err != nil {
		return err
	}
	if node.Name != name {
		return fmt.Errorf("another node, %s, answers at %s", node.Name, s.URL)
	}
	return s.Ask(ctx, http.MethodGet, "/_cluster/health?wait_for_status=yellow&timeout=2s", nil, nil)
}

// Ask makes a request of the node's REST interface, such as "/index/_search?q=x", with body as JSON ([]byte and string go as they are), and decodes
// the answer into answer; either may be nil. A status other than 2xx is an error that shows what the node said.
func (s *OpenSearchServer) Ask(ctx context.Context, method, path string, body, answer any) error {
	var send []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		send = b
	case string:
		send = []byte(b)
	default:
		var err error
		if send, err = json.Marshal(b); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, bytes.NewReader(send))
	if err != nil {
		return err
	}
	req.Close = true // leave no connection behind
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, got)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(got, answer)
}
