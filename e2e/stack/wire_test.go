package stack

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"
)

// startSource returns the address of a server that sends text to who sends a
// line, again and again.
func startSource(t *testing.T, text string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					_, _ = io.WriteString(conn, text)
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func newWire(t *testing.T, target string) *Wire {
	t.Helper()
	w, err := NewWire(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Trouble(Trouble{})
		w.Down()
	})
	return w
}

// TestWire passes bytes, cuts them off at each place, holds them up, and is down.
func TestWire(t *testing.T) {
	const text = "0123456789"
	w := newWire(t, startSource(t, text))
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", w.Address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	ask := func(conn net.Conn, n int) string {
		_, _ = io.WriteString(conn, "\n")
		got := make([]byte, n)
		read, _ := io.ReadFull(conn, got)
		return string(got[:read])
	}

	conn := dial()
	if got := ask(conn, len(text)); got != text {
		t.Fatalf("got %q through a wire without trouble, want %q", got, text)
	}
	for n := range len(text) {
		for _, reset := range []bool{false, true} {
			w.Trouble(Trouble{Cuts: true, Cut: n, Reset: reset})
			for name, c := range map[string]net.Conn{"new": dial(), "old": conn} {
				if got := ask(c, len(text)); got != text[:n] {
					t.Errorf("cut after %d bytes (reset %t), a connection that was %s got %q", n, reset, name, got)
				}
			}
			w.Trouble(Trouble{})
			conn = dial()
			ask(conn, len(text))
		}
	}

	w.Trouble(Trouble{Stalled: true})
	answers := make(chan string, 1)
	go func() { answers <- ask(conn, len(text)) }()
	select {
	case got := <-answers:
		t.Errorf("got %q through a wire that is stalled", got)
	case <-time.After(50 * time.Millisecond):
	}
	w.Trouble(Trouble{Slow: time.Millisecond})
	if got := <-answers; got != text {
		t.Errorf("got %q once the wire was no longer stalled", got)
	}

	w.Down()
	if got := ask(conn, 1); got != "" {
		t.Errorf("got %q through a wire that is down", got)
	}
	if _, err := net.Dial("tcp", w.Address); err == nil {
		t.Error("a wire that is down accepts connections")
	}
	if err := w.Up(); err != nil {
		t.Fatal(err)
	}
	if got := ask(dial(), len(text)); got != text {
		t.Errorf("got %q through a wire that is up again", got)
	}
}
