package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "curl" {
		os.Exit(curl())
	}
	os.Exit(m.Run())
}

// curl stands in for the real one on a machine that has none.
func curl() int {
	flags := flag.NewFlagSet("curl", flag.ExitOnError)
	flags.Bool("s", false, "")
	include := flags.Bool("i", false, "")
	output := flags.String("o", "", "")
	format := flags.String("w", "", "")
	method := flags.String("X", http.MethodGet, "")
	header := flags.String("H", "", "")
	_ = flags.Parse(os.Args[1:])
	req, err := http.NewRequestWithContext(context.Background(), *method, flags.Arg(0), nil)
	if err != nil {
		return 3
	}
	if name, value, ok := strings.Cut(*header, ": "); ok {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 7
	}
	defer resp.Body.Close()
	if *include {
		fmt.Printf("HTTP/1.1 %s\n\n", resp.Status)
	}
	if *output == "" {
		_, _ = io.Copy(os.Stdout, resp.Body)
	}
	fmt.Print(strings.NewReplacer("%{http_code}", fmt.Sprint(resp.StatusCode), `\n`, "\n").Replace(*format))
	return 0
}

// TestDemo runs the demo as a person does: it tries each command that it prints,
// edits the manifest, and ends it by Ctrl-C.
func TestDemo(t *testing.T) {
	traefik, err := stack.BuildTraefik(t.Context(), stack.TraefikVersion, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	demo := exec.CommandContext(t.Context(), binary)
	demo.Env = append(os.Environ(), "TRAEFIK="+traefik)
	demo.Stderr = os.Stderr
	stdout, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	shown, rest := readUntil(t, stdout, "Press Ctrl-C")

	commands := commandsIn(shown)
	if len(commands) < 10 {
		t.Fatalf("found only %d commands in\n%s", len(commands), shown)
	}
	shell := newShell(t)
	for _, c := range commands {
		t.Run(c.what, func(t *testing.T) { c.try(t, shell) })
	}
	first := commands[0]
	if err := stack.Until(t.Context(), "the edit to take effect", 20*time.Second, func() error {
		if got := statuses(shell(t, first.command)); !slices.Equal(got, []string{"401"}) {
			return fmt.Errorf("the first command still gives %q", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}

	logged := regexp.MustCompile(`\S+\.log\b`).FindAllString(shown, -1)
	if len(logged) != 2 {
		t.Fatalf("found no two logs in\n%s", shown)
	}
	for _, file := range logged {
		if data, err := os.ReadFile(file); err != nil || len(data) == 0 {
			t.Errorf("%s: got %d bytes, %v", file, len(data), err)
		}
	}

	addresses := regexp.MustCompile(`http://(127\.0\.0\.1:\d+)`).FindAllStringSubmatch(shown, 3)
	folder := regexp.MustCompile(`configuration is in (\S+)\.`).FindStringSubmatch(shown)
	if len(addresses) < 3 || folder == nil {
		t.Fatalf("found no addresses or no folder in\n%s", shown)
	}
	if err := demo.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, rest); err != nil {
		t.Error(err)
	}
	if err := demo.Wait(); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	for _, address := range addresses {
		dialer := net.Dialer{Timeout: time.Second}
		if conn, err := dialer.DialContext(t.Context(), "tcp", address[1]); err == nil {
			_ = conn.Close()
			t.Errorf("something still listens on %s", address[1])
		}
	}
	if _, err := os.Stat(folder[1]); !os.IsNotExist(err) {
		t.Errorf("%s is still there", folder[1])
	}
}

// readUntil returns what is printed up to a line, and what is still to come.
func readUntil(t *testing.T, r io.Reader, last string) (text string, rest io.Reader) {
	t.Helper()
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		text += line
		if err != nil {
			t.Fatalf("%v before %q:\n%s", err, last, text)
		}
		if strings.Contains(line, last) {
			return text, lines
		}
	}
}

// command is one that the demo prints, with the comment above it.
type command struct{ what, command string }

func commandsIn(shown string) []command {
	var found []command
	what := ""
	for line := range strings.Lines(shown) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "# "):
			what += strings.TrimPrefix(line, "# ") + " "
		case line == "":
			what = ""
		case what != "":
			found = append(found, command{what, line})
		}
	}
	return found
}

// try runs a command and compares the statuses that it prints with those in its
// comment.
func (c command) try(t *testing.T, shell func(*testing.T, string) string) {
	line := c.command
	if c.explains() {
		line += " || [ $? -eq 1 ]"
	}
	out := shell(t, line)
	c.findReasons(t, out)
	want := regexp.MustCompile(`\b[245]\d\d\b`).FindAllString(afterArrow(c.what), -1)
	if len(want) == 0 {
		return // It does something else: that it succeeded is enough.
	}
	got := statuses(out)
	if len(got) == 0 {
		t.Fatalf("got no status from %s:\n%s", c.command, out)
	}
	for _, status := range got {
		if !slices.Contains(want, status) {
			t.Errorf("got %q, want of %q", got, want)
		}
	}
	// A loop begins and ends as the comment says.
	if len(got) > 1 && (got[0] != want[0] || got[len(got)-1] != want[len(want)-1]) {
		t.Errorf("got %q, want from %s to %s", got, want[0], want[len(want)-1])
	}
}

// findReasons looks for the reason codes of a command's comment in what it prints.
func (c command) findReasons(t *testing.T, out string) {
	for _, reason := range regexp.MustCompile(`[a-z]+_[a-z]+`).FindAllString(c.what, -1) {
		if (strings.Contains(c.command, "curl -i") || c.explains()) && !strings.Contains(out, reason) {
			t.Errorf("found no %s in\n%s", reason, out)
		}
	}
}

// explains reports whether the command explains a refusal, and so has status 1.
func (c command) explains() bool { return strings.Contains(c.command, "tollgate explain ") }

func afterArrow(what string) string {
	_, after, _ := strings.Cut(what, "→")
	return after
}

// statuses finds the statuses of answers that curl printed.
func statuses(out string) []string {
	var found []string
	for _, match := range regexp.MustCompile(`(?m)^(?:HTTP/1\.1 )?([245]\d\d)(?:$| )`).FindAllStringSubmatch(strings.ReplaceAll(out, "\r", ""), -1) {
		found = append(found, match[1])
	}
	return found
}

// newShell returns what runs a command as a person's shell does.
func newShell(t *testing.T) func(t *testing.T, command string) string {
	t.Helper()
	path := os.Getenv("PATH")
	if _, err := exec.LookPath("curl"); err != nil {
		dir := t.TempDir()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(self, filepath.Join(dir, "curl")); err != nil {
			t.Fatal(err)
		}
		path = dir + ":" + path
	}
	return func(t *testing.T, command string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Env = append(os.Environ(), "PATH="+path)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
}
