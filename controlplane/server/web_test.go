package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/table"
)

// lasts returns how long a connection lasts whose client sends something each
// second, and what it is answered.
func lasts(t *testing.T, conn net.Conn, send string) (time.Duration, string) {
	t.Helper()
	begin := time.Now()
	answer := make(chan string)
	go func() {
		data, _ := io.ReadAll(conn)
		answer <- string(data)
	}()
	for {
		if send != "" {
			_, _ = conn.Write([]byte{send[0]})
			send = send[1:]
		}
		select {
		case text := <-answer:
			return time.Since(begin).Round(time.Second), text
		case <-time.After(time.Second):
		}
	}
}

// TestSlowClients looks for how long clients are borne that do nothing, or little.
func TestSlowClients(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for _, test := range []struct {
		name         string
		tls          bool
		protocol     string
		first, drips string
		want         time.Duration
	}{
		{"says nothing", false, "", "", "", 5 * time.Second},
		{"a slow request line", false, "", "", strings.Repeat("G", 100), 5 * time.Second},
		{"a slow header", false, "", "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", strings.Repeat("x", 100), 5 * time.Second},
		{"nothing after an answer", false, "", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "", 2 * time.Minute},
		{"a slow second header", false, "", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /he", "", 5 * time.Second},
		{"says nothing in HTTP/1.1 over TLS", true, "http/1.1", "", "", 5 * time.Second},
		{"says nothing in HTTP/2", true, "h2", preface, "", 2*time.Minute + time.Second},
		{"half a header in HTTP/2", true, "h2", preface + "\x00\x00\x01\x01\x05\x00\x00\x00\x01\x82", "", 2*time.Minute + time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := quietServer()
				publish(t, s, newTable("Standard"))
				var conn net.Conn
				if test.tls {
					listener := newPipes()
					site := newTLSSiteOn(t, s, listener, func() (net.Conn, error) { return listener.dial(), nil })
					conn = tls.Client(listener.dial(), &tls.Config{RootCAs: site.own.pool(), ServerName: "127.0.0.1", NextProtos: []string{test.protocol}})
				} else {
					listener, shutDown := serveOnPipes(t, s)
					defer shutDown()
					conn = listener.dial()
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, test.first); err != nil {
					t.Fatal(err)
				}
				if got, text := lasts(t, conn, test.drips); got != test.want {
					t.Errorf("lasted %s, want %s; was answered %q", got, test.want, text)
				}
			})
		})
	}
}

// TestSlowHandshake begins no handshake.
func TestSlowHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := newPipes()
		newTLSSiteOn(t, quietServer(), listener, nil)
		conn := listener.dial()
		defer conn.Close()
		if got, _ := lasts(t, conn, ""); got != 5*time.Second {
			t.Errorf("lasted %s, want 5s", got)
		}
	})
}

// TestSlowReader does not take the answer.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietServer()
		publish(t, s, newTable(strings.Repeat("x", 1<<20)))
		listener, shutDown := serveOnPipes(t, s)
		defer shutDown()
		conn := listener.dial()
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET "+table.Path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*time.Minute + time.Second)
		if data, _ := io.ReadAll(conn); len(data) > 64<<10 {
			t.Errorf("after five minutes: got %d bytes, want the end", len(data))
		}
	})
}

// TestBigRequests sends more than a request may have.
func TestBigRequests(t *testing.T) {
	body := strings.Repeat("x", 100_000)
	for _, test := range []struct {
		name, request string
		want          int
	}{
		{"a header within bounds", "GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + body[:15_000] + "\r\n\r\n", 200},
		{"a large header", "GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + body[:30_000] + "\r\n\r\n", 431},
		{"many headers", "GET /healthz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 10_000) + "\r\n", 431},
		{"a large path", "GET /" + body[:30_000] + " HTTP/1.1\r\nHost: x\r\n\r\n", 431},
		{"a body", "GET " + table.Path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 413},
		{"a body that does not come", "GET " + table.Path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413},
		{"a large body", "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + body, 413},
		{"a body of unknown length", "POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n", 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := quietServer()
				publish(t, s, newTable("Standard"))
				listener, shutDown := serveOnPipes(t, s)
				defer shutDown()
				conn := listener.dial()
				defer conn.Close()
				go func() { _, _ = io.WriteString(conn, test.request) }()
				begin := time.Now()
				reader := bufio.NewReader(conn)
				res, err := http.ReadResponse(reader, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				if got := time.Since(begin); res.StatusCode != test.want || got > time.Second {
					t.Errorf("got %d after %s, want %d at once", res.StatusCode, got, test.want)
				}
				if test.want == 200 {
					return
				}
				if _, err := io.Copy(io.Discard, reader); !res.Close || time.Since(begin) > 15*time.Second {
					t.Errorf("Connection: close is %v, and the connection ended after %s with %v", res.Close, time.Since(begin), err)
				}
			})
		})
	}
}

// TestRefusedLeave checks that who is refused cannot keep the connection.
func TestRefusedLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietServer()
		publish(t, s, newTable("Standard"))
		s.AdmitTokens([]string{"a-token"})
		listener, shutDown := serveOnPipes(t, s)
		defer shutDown()
		conn := listener.dial()
		defer conn.Close()
		begin := time.Now()
		if _, err := io.WriteString(conn, "GET "+table.Path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(conn); err != nil || !strings.Contains(string(data), "401 Unauthorized") || time.Since(begin) > time.Second {
			t.Errorf("after %s: got %q, %v, want 401 and the end", time.Since(begin), data, err)
		}
	})
}

// TestHTTP2 holds many requests on one connection, and sends too much on another.
func TestHTTP2(t *testing.T) {
	s := quietServer()
	publish(t, s, newTable("Standard"))
	site := newTLSSite(t, s)
	c := site.client()
	known := tag(s)
	const held = 50
	answers := make(chan *http.Response, held)
	for range held {
		go func() {
			r, err := http.NewRequest(http.MethodGet, "https://127.0.0.1"+table.Path, http.NoBody)
			if err == nil {
				r.Header.Set("If-None-Match", known[:len(known)-1]+`-gzip"`)
				r.Header.Set("Accept-Encoding", "gzip")
				r.Header.Set("Prefer", "wait=60")
				var res *http.Response
				if res, err = c.Do(r); err == nil {
					res.Body.Close()
					answers <- res
					return
				}
			}
			t.Error(err)
			answers <- nil
		}()
	}
	// Whoever comes too late to be held gets the same answer.
	gold := newTable("Gold")
	gold.Revision++
	publish(t, s, gold)
	for range held {
		if res := <-answers; res == nil || res.StatusCode != 200 || res.ProtoMajor != 2 || res.Header.Get("Preference-Applied") != "wait=60" {
			t.Fatalf("got %+v, want the other table", res)
		}
	}

	r, err := http.NewRequest(http.MethodGet, "https://127.0.0.1/healthz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X", strings.Repeat("x", 30_000))
	if res, err := site.client().Do(r); err == nil && res.StatusCode != 431 {
		t.Errorf("a large header: got %d", res.StatusCode)
	}
	r, err = http.NewRequest(http.MethodGet, "https://127.0.0.1/healthz", strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if res, err := site.client().Do(r); err != nil || res.StatusCode != 413 {
		t.Errorf("a body: got %v, %v, want 413", res, err)
	}
}

// TestOldTLS wants an old version of TLS, or none.
func TestOldTLS(t *testing.T) {
	s := quietServer()
	site := newTLSSite(t, s)
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		conn, err := site.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		client := tls.Client(conn, &tls.Config{RootCAs: site.own.pool(), ServerName: "127.0.0.1", MinVersion: version, MaxVersion: version})
		if err := client.Handshake(); err == nil {
			t.Errorf("%s was taken", tls.VersionName(version))
		}
	}
	conn, err := site.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if data, _ := io.ReadAll(conn); !bytes.HasPrefix(data, []byte("HTTP/1.0 400 ")) {
		t.Errorf("without TLS: got %q, want 400", data)
	}
}

// TestLimit opens more connections than there may be.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		inner := newPipes()
		limited := server.Limit(inner, 2, slog.New(slog.NewTextHandler(&log, nil)))
		s := quietServer()
		web := s.Web()
		ended := make(chan error, 1)
		go func() { ended <- web.Serve(limited) }()
		defer func() {
			_ = web.Shutdown(context.Background())
			if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}()
		// works says whether a connection is served.
		works := func(conn net.Conn) bool {
			if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				return false
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return false
			}
			body(t, res)
			return true
		}
		conns := make([]net.Conn, 4)
		for i := range conns {
			conns[i] = inner.dial()
			defer conns[i].Close()
			if got, want := works(conns[i]), i < 2; got != want {
				t.Errorf("connection %d works: %v, want %v", i, got, want)
			}
		}
		synctest.Wait()
		if got := strings.Count(log.String(), "too many connections"); got != 1 {
			t.Errorf("logged %d times, want once: %s", got, &log)
		}
		time.Sleep(11 * time.Second)
		if works(inner.dial()) {
			t.Error("one more works, want not")
		}
		synctest.Wait()
		if !strings.Contains(log.String(), "notLogged=1") {
			t.Errorf("logged %s, want how many lines were left out", &log)
		}
		conns[0].Close()
		synctest.Wait()
		next := inner.dial()
		defer next.Close()
		if !works(next) {
			t.Error("after one has gone another does not work")
		}
		if !works(conns[1]) {
			t.Error("the one that was there does not work any more")
		}
	})
}

// TestLogsNoSecrets sends secrets to all places that are not for them, and logs
// all that there is.
func TestLogsNoSecrets(t *testing.T) {
	var log bytes.Buffer
	s := server.New(server.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	s.AdmitTokens([]string{"the-token"})
	const secret = "not-to-be-told"
	for _, path := range []string{table.Path + "?token=" + secret, "/" + secret, table.PartPath(secret), "/healthz?" + secret} {
		for _, authorization := range []string{"Bearer " + secret, secret, "Basic " + secret, "Bearer the-token"} {
			get(s, "GET", path, "Authorization", authorization, "Cookie", secret, "Prefer", secret, "If-None-Match", secret)
			get(s, secret, path, "Authorization", authorization)
		}
	}
	if log.Len() == 0 || strings.Contains(log.String(), secret) || strings.Contains(log.String(), "the-token") {
		t.Errorf("logged %s", &log)
	}
}
