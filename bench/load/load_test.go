package load

import (
	"bufio"
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

func target(u *Upstream, status int) Target {
	return Target{
		Address: u.Address,
		Request: func(buf []byte, _ uint64) []byte { return append(buf, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"...) },
		Status:  status,
	}
}

func start(t *testing.T) *Upstream {
	t.Helper()
	u, err := StartUpstream()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Stop)
	return u
}

func TestClosed(t *testing.T) {
	u := start(t)
	if err := Send(target(u, 200), 3, 0, 50); err != nil {
		t.Error(err)
	}
	err := Send(target(u, 401), 3, 0, 50)
	if err == nil || !strings.Contains(err.Error(), "status 200, want 401") {
		t.Errorf("got error %v, want one that tells the status", err)
	}
}

// Every request that was due has a latency, and those have the rate's distance.
func TestOpen(t *testing.T) {
	u := start(t)
	ctx, cancel := context.WithCancel(context.Background())
	sent := target(u, 200)
	request := sent.Request
	sent.Request = func(buf []byte, n uint64) []byte {
		if n == 99 {
			cancel()
		}
		return request(buf, n)
	}
	latencies, err := Open(ctx, sent, 4, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	if len(latencies) != 100 {
		t.Fatalf("got %d latencies, want 100", len(latencies))
	}
	for i, l := range latencies {
		if got, want := l.Due.Sub(latencies[0].Due), time.Duration(i)*100*time.Microsecond; got != want {
			t.Errorf("request %d was due after %s, want %s", i, got, want)
		}
		if l.Took <= l.Late || l.Late < 0 {
			t.Errorf("request %d took %s, of which %s before it was sent", i, l.Took, l.Late)
		}
	}
}

func TestOpenTellsWrongAnswers(t *testing.T) {
	u := start(t)
	_, err := Open(t.Context(), target(u, 429), 2, 1000)
	if err == nil || !strings.Contains(err.Error(), "status 200, want 429") {
		t.Errorf("got error %v, want one that tells the status", err)
	}
}

// A gateway that goes away is an error, not a wait.
func TestOpenTellsBrokenConnections(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	u := start(t)
	sent := target(u, 200)
	sent.Address = listener.Addr().String()
	if _, err := Open(t.Context(), sent, 2, 1000); err == nil {
		t.Error("got no error")
	}
}

func TestReadAnswer(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       int
		err        string
	}{
		{"an answer", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", 200, ""},
		{"no body", "HTTP/1.1 429 Too Many Requests\r\nA: b\r\ncontent-length:0\r\n\r\n", 429, ""},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "without Content-Length"},
		{"a short body", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", 0, "EOF"},
		{"no answer", "", 0, "EOF"},
		{"something else", "SSH-2.0-OpenSSH_9.6\r\n", 0, "no status line"},
		{"a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n", 0, "no length"},
	} {
		got, err := readAnswer(bufio.NewReader(strings.NewReader(test.text)))
		if test.err == "" && (err != nil || got != test.want) {
			t.Errorf("%s: got %d and error %v, want %d", test.name, got, err, test.want)
		}
		if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: got error %v, want one with %q", test.name, err, test.err)
		}
	}
}
