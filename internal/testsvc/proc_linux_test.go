package testsvc_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/testsvc"
)

const orphanEnv = "WEIRLINE_TESTSVC_ORPHAN"

// TestServerEndsWithItsStarter runs itself in a child that starts a server and is killed.
func TestServerEndsWithItsStarter(t *testing.T) {
	if os.Getenv(orphanEnv) != "" {
		fmt.Println("addr", testsvc.NewRedis(t, testsvc.RedisOptions{}).Addr)
		<-t.Context().Done() // until killed
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.timeout", "30s")
	cmd.Env = append(os.Environ(), orphanEnv+"=1", "TMPDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := ""
	for sc := bufio.NewScanner(out); addr == "" && sc.Scan(); {
		if _, err := fmt.Sscanf(sc.Text(), "addr %s", &addr); err != nil {
			t.Logf("child says %q", sc.Text())
		}
	}
	if addr == "" {
		t.Fatal("child gave no address")
	}
	if c, err := net.Dial("tcp", addr); err != nil {
		t.Fatal(err)
	} else if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the killed child reports success")
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		_ = c.Close()
		if time.Now().After(deadline) {
			t.Fatal("the server outlives the process that started it")
		}
	}
}
