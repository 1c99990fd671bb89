package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/table"
)

func quietServer() *server.Server {
	return server.New(server.Options{Log: slog.New(slog.DiscardHandler)})
}

// ask asks in the background. In a bubble of synctest the answer is there as soon
// as synctest.Wait returns, unless the request is being held.
func ask(ctx context.Context, s *server.Server, method string, headers ...string) <-chan *http.Response {
	r := httptest.NewRequestWithContext(ctx, method, table.Path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	answers := make(chan *http.Response, 1)
	go func() {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		answers <- w.Result()
	}()
	return answers
}

func tag(s *server.Server) string { return get(s, "HEAD", table.Path).Header.Get("ETag") }

// TestWait looks at which requests are held, and for how long.
func TestWait(t *testing.T) {
	const current = "the tag in force"
	for _, test := range []struct {
		name, method, match string
		prefer              []string
		want                time.Duration
		applied             string
	}{
		{"some seconds", "GET", current, []string{"wait=30"}, 30 * time.Second, "wait=30"},
		{"none", "GET", current, []string{"wait=0"}, 0, "wait=0"},
		{"the longest", "GET", current, []string{"wait=60"}, time.Minute, "wait=60"},
		{"longer", "GET", current, []string{"wait=61"}, time.Minute, "wait=60"},
		{"longer than any number", "GET", current, []string{"wait=99999999999999999999999"}, time.Minute, "wait=60"},
		{"leading zeros", "GET", current, []string{"wait=0007"}, 7 * time.Second, "wait=7"},
		{"in capitals", "GET", current, []string{"Wait=5"}, 5 * time.Second, "wait=5"},
		{"spaces", "GET", current, []string{" wait =\t5 "}, 5 * time.Second, "wait=5"},
		{"quoted", "GET", current, []string{`wait="5"`}, 5 * time.Second, "wait=5"},
		{"quoted and escaped", "GET", current, []string{`wait="\1\0"`}, 10 * time.Second, "wait=10"},
		{"with a parameter", "GET", current, []string{"wait=5; foo=6"}, 5 * time.Second, "wait=5"},
		{"among others", "GET", current, []string{`respond-async, x="a,wait=3", wait=5`}, 5 * time.Second, "wait=5"},
		{"a quote in quotes", "GET", current, []string{`x="\",wait=3", wait=5`}, 5 * time.Second, "wait=5"},
		{"in the second field", "GET", current, []string{"return=minimal", "wait=5"}, 5 * time.Second, "wait=5"},
		{"twice: the first", "GET", current, []string{"wait=5, wait=6", "wait=7"}, 5 * time.Second, "wait=5"},
		{"any tag", "GET", "*", []string{"wait=5"}, 5 * time.Second, "wait=5"},
		{"a weak tag among others", "GET", `"x", W/` + current, []string{"wait=5"}, 5 * time.Second, "wait=5"},

		{"not asked for", "GET", current, nil, 0, ""},
		{"nothing", "GET", current, []string{""}, 0, ""},
		{"no value", "GET", current, []string{"wait"}, 0, ""},
		{"an empty value", "GET", current, []string{"wait="}, 0, ""},
		{"negative", "GET", current, []string{"wait=-1"}, 0, ""},
		{"with a plus sign", "GET", current, []string{"wait=+1"}, 0, ""},
		{"a fraction", "GET", current, []string{"wait=1.5"}, 0, ""},
		{"with a unit", "GET", current, []string{"wait=5s"}, 0, ""},
		{"half a quote", "GET", current, []string{`wait="5`}, 0, ""},
		{"a bad one first", "GET", current, []string{"wait=x, wait=5"}, 0, ""},
		{"another preference", "GET", current, []string{"waiting=5, x;wait=5"}, 0, ""},

		{"HEAD", "HEAD", current, []string{"wait=5"}, 0, ""},
		{"another tag", "GET", `"x"`, []string{"wait=5"}, 0, "wait=5"},
		{"no tag", "GET", "", []string{"wait=5"}, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := quietServer()
				publish(t, s, newTable("Standard"))
				var headers []string
				if test.match != "" {
					headers = append(headers, "If-None-Match", strings.ReplaceAll(test.match, current, tag(s)))
				}
				for _, prefer := range test.prefer {
					headers = append(headers, "Prefer", prefer)
				}
				begin := time.Now()
				res := <-ask(t.Context(), s, test.method, headers...)
				if got := time.Since(begin); got != test.want {
					t.Errorf("held for %s, want %s", got, test.want)
				}
				if got := res.Header.Get("Preference-Applied"); got != test.applied {
					t.Errorf("applied %q, want %q", got, test.applied)
				}
				want := http.StatusNotModified
				if test.match == "" || test.match == `"x"` {
					want = http.StatusOK
				}
				if res.StatusCode != want {
					t.Errorf("got %d, want %d", res.StatusCode, want)
				}
			})
		})
	}
}

// FuzzHeaders asks with any header, for one document and for a table in parts.
func FuzzHeaders(f *testing.F) {
	f.Add(`respond-async, x="a,wait=3", wait=5`, "gzip;q=0.5, *", `W/"x", *`, indexType+";q=0.1")
	f.Add(`wait="\5";"`, "identity", `"`, "*/*")
	f.Add("wait=60", "", "", "application/json")
	whole, inParts := quietServer(), dividing()
	for _, s := range []*server.Server{whole, inParts} {
		if err := s.Publish(tableOf(2), nil, nil); err != nil {
			f.Fatal(err)
		}
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	f.Fuzz(func(t *testing.T, prefer, encoding, match, accept string) {
		for _, s := range []*server.Server{whole, inParts} {
			res := <-ask(gone, s, "GET", "If-None-Match", match, "Prefer", prefer, "Accept-Encoding", encoding, "Accept", accept)
			h := res.Header
			applied := h.Get("Preference-Applied")
			var seconds int
			if _, err := fmt.Sscanf(applied, "wait=%d", &seconds); applied != "" && (err != nil || seconds < 0 || seconds > 60) {
				t.Errorf("applied %q", applied)
			}
			if applied != "" && !strings.Contains(strings.ToLower(prefer), "wait") {
				t.Errorf("applied %q, which was not asked for", applied)
			}
			if h.Get("Content-Encoding") != "" && !strings.Contains(strings.ToLower(encoding), "gzip") && !strings.Contains(encoding, "*") {
				t.Errorf("encoded as %q, which was not asked for", h.Get("Content-Encoding"))
			}
			switch res.StatusCode {
			case 200:
			case 304:
				if !strings.Contains(match, strings.Trim(h.Get("ETag"), `"`)) && !strings.Contains(match, "*") {
					t.Errorf("304 for %q, though the tag is %s", match, h.Get("ETag"))
				}
			case 406:
				if s == whole || accept == indexType || accept == "*/*" {
					t.Error("406 for what can be accepted")
				}
			default:
				t.Errorf("got %d", res.StatusCode)
			}
		}
	})
}

// TestRelease releases requests in the different ways, and looks at what they are
// answered and that they were held until then.
func TestRelease(t *testing.T) {
	for _, test := range []struct {
		name    string
		release func(t *testing.T, s *server.Server, leave func())
		want    int
	}{
		{"by another table", func(t *testing.T, s *server.Server, _ func()) { publish(t, s, newTable("Gold")) }, 200},
		{"by two", func(t *testing.T, s *server.Server, _ func()) {
			publish(t, s, newTable("Gold"))
			publish(t, s, newTable("Silver"))
		}, 200},
		{"by the end", func(_ *testing.T, s *server.Server, _ func()) { s.Release(); s.Release() }, 304},
		{"by the client", func(_ *testing.T, _ *server.Server, leave func()) { leave() }, 304},
		{"after the token was withdrawn", func(t *testing.T, s *server.Server, _ func()) {
			s.AdmitTokens([]string{"b"})
			publish(t, s, newTable("Gold"))
		}, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := quietServer()
				publish(t, s, newTable("Standard"))
				known := tag(s)
				s.AdmitTokens([]string{"a", "b"})
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				begin := time.Now()
				answers := ask(ctx, s, "GET", "Authorization", "Bearer a", "If-None-Match", known, "Prefer", "wait=30")
				synctest.Wait()

				time.Sleep(time.Second)
				publish(t, s, newTable("Standard")) // says the same
				if err := s.Publish(newTable("Standard"), &compile.Change{}, nil); err != nil {
					t.Fatal(err)
				}
				s.KeepOut(nil)
				synctest.Wait()
				select {
				case <-answers:
					t.Fatal("answered though nothing had changed")
				default:
				}
				test.release(t, s, leave)
				res := <-answers
				if got := time.Since(begin); got != time.Second {
					t.Errorf("held for %s, want 1s", got)
				}
				if res.StatusCode != test.want {
					t.Errorf("got %d, want %d", res.StatusCode, test.want)
				}
				if applied := res.Header.Get("Preference-Applied"); res.StatusCode != 401 && applied != "wait=30" {
					t.Errorf("applied %q, want wait=30", applied)
				}
				if text := body(t, res); test.want == 200 && (res.Header.Get("ETag") == known || !strings.Contains(text, "Gold") && !strings.Contains(text, "Silver")) {
					t.Errorf("serves %s with the tag %s", text, res.Header.Get("ETag"))
				}
			})
		})
	}
}

// TestReleased holds nobody any more once the end is near.
func TestReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietServer()
		publish(t, s, newTable("Standard"))
		s.Release()
		begin := time.Now()
		<-ask(t.Context(), s, "GET", "If-None-Match", "*", "Prefer", "wait=30")
		if got := time.Since(begin); got != 0 {
			t.Errorf("held for %s, want not at all", got)
		}
	})
}

// pipes is a listener for connections without a network, whose deadlines run by
// the bubble's clock.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.done) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

// serveOnPipes serves as the command does, until shutDown, which must be called.
func serveOnPipes(t *testing.T, s *server.Server) (listener *pipes, shutDown func()) {
	t.Helper()
	listener = newPipes()
	web := s.Web()
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(listener) }()
	return listener, func() {
		if err := web.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	}
}

const heldRequest = "GET " + table.Path + " HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\nPrefer: wait=60\r\n\r\n"

// TestHoldFitsDeadlines holds a request for longer than its reading may take, and
// then writes for nearly as long as that may take.
func TestHoldFitsDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietServer()
		publish(t, s, newTable("Standard"))
		listener, shutDown := serveOnPipes(t, s)
		defer shutDown()
		conn := listener.dial()
		defer conn.Close()
		for range 2 { // the connection is good for another request
			begin := time.Now()
			if _, err := io.WriteString(conn, strings.Replace(heldRequest, "*", tag(s), 1)); err != nil {
				t.Fatal(err)
			}
			large := strings.Repeat(fmt.Sprint(rand.Int64()), 1<<15)
			time.Sleep(59 * time.Second)
			publish(t, s, newTable(large))
			time.Sleep(299 * time.Second) // a client that does not read
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("after %s: %v", time.Since(begin), err)
			}
			if text := body(t, res); res.StatusCode != 200 || !strings.Contains(text, large) {
				t.Errorf("got %d and %d bytes", res.StatusCode, len(text))
			}
		}
	})
}

// TestShutdownReleases shuts down while a request is being held.
func TestShutdownReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietServer()
		publish(t, s, newTable("Standard"))
		listener, shutDown := serveOnPipes(t, s)
		conn := listener.dial()
		defer conn.Close()
		if _, err := io.WriteString(conn, heldRequest); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		begin, shut := time.Now(), make(chan struct{})
		go func() {
			shutDown()
			close(shut)
		}()
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begin); got > time.Second || res.StatusCode != 304 || !res.Close {
			t.Errorf("got %d after %s, close %v, want 304 at once and the end of the connection", res.StatusCode, got, res.Close)
		}
		<-shut
	})
}

// TestHeldAreCheap holds a thousand requests.
func TestHeldAreCheap(t *testing.T) {
	const held, most = 1000, 64 << 10
	synctest.Test(t, func(t *testing.T) {
		s := quietServer()
		publish(t, s, newTable("Standard"))
		listener, shutDown := serveOnPipes(t, s)
		defer shutDown()
		request := strings.Replace(heldRequest, "*", tag(s), 1)
		before := memoryInUse()
		conns := make([]net.Conn, held)
		for i := range conns {
			conns[i] = listener.dial()
			defer conns[i].Close()
			if _, err := io.WriteString(conns[i], request); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := (memoryInUse() - before) / held; got > most {
			t.Errorf("a held request costs %d bytes, want at most %d", got, most)
		}
		publish(t, s, newTable("Gold"))
		for _, conn := range conns {
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || res.StatusCode != 200 {
				t.Fatalf("got %v, %v, want the other table", res, err)
			}
			body(t, res)
		}
	})
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// memoryInUse returns how many bytes the heap and the stacks have.
func memoryInUse() uint64 {
	runtime.GC()
	runtime.GC() // the first only moved pools aside
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
