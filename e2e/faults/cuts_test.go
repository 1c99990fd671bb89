package faults

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
	"github.com/tollgate-apim/tollgate/table"
)

// TestCuts cuts answers off after each number of bytes: while a gateway has no
// table yet, and then, once it has one, while there is a newer one.
func TestCuts(t *testing.T) {
	public, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []planned
	for _, kind := range []answers{
		{"plain", 0, nil, form{plain: true}},
		{"zipped", 0, nil, form{}},
		{"chunked", 0, signer, form{chunked: true}},
		{"parts", 4, signer, form{}},
	} {
		for _, n := range places(shortest(t, kind)) {
			all = append(all, planned{kind, n})
		}
	}
	h := startTraefik(t)
	for some := range slices.Chunk(all, cutsAtOnce) {
		cutAll(t, h, some, publicText(public))
	}
	t.Logf("%d cuts", len(all))
}

// cutsAtOnce is how many gateways there are at a time.
const cutsAtOnce = 200

// answers are what is cut.
type answers struct {
	name   string
	parts  int
	signer ed25519.PrivateKey
	form   form
}

// planned is a place where answers are cut.
type planned struct {
	answers
	after int
}

// places returns where to cut an answer of so many bytes: all near the end, and
// as many before that as are wanted.
func places(length int) []int {
	step := 1
	if *cuts > 0 {
		step = length / *cuts + 1
	}
	var list []int
	for n := range length {
		if n%step == int(*seed)%step || n >= length-4 {
			list = append(list, n)
		}
	}
	return list
}

func cutAll(t *testing.T, h host, some []planned, public string) {
	t.Helper()
	var all []cut
	var gateways []*gateway
	for _, p := range some {
		g := newCut(t, h, fmt.Sprintf("%s-%d", p.name, p.after), p.answers)
		g.trouble = stack.Trouble{Cuts: true, Cut: p.after, Reset: p.after%2 == 0}
		g.wire.Trouble(g.trouble)
		if p.signer != nil {
			g.sync.PublicKey = public
		}
		all, gateways = append(all, g), append(gateways, g.gateway)
	}
	if err := h.configure(gateways); err != nil {
		t.Fatal(err)
	}
	for i, err := range atOnce(len(all), func(i int) error { return all[i].story() }) {
		if err != nil {
			t.Errorf("cut after byte %d: %v", all[i].trouble.Cut, err)
		}
	}
}

// cut is a gateway whose answers are cut off.
type cut struct {
	*gateway
	truth   *truth
	front   *front
	wire    *stack.Wire
	trouble stack.Trouble
}

func newCut(t *testing.T, h host, name string, kind answers) cut {
	t.Helper()
	truth := newTruth(kind.parts, kind.signer)
	truth.form = kind.form
	truth.publish(version{number: first})
	f := newFront(t, truth, nil)
	f.add(name, kind.signer != nil)
	wire := newWire(t, f.address)
	sync := stack.Sync{Endpoint: "http://" + wire.Address + "/" + name, Timeout: "2s", Interval: "300ms", Wait: "20s"}
	return cut{newGateway(h, name, sync, f.served), truth, f, wire, stack.Trouble{}}
}

func newWire(t *testing.T, target string) *stack.Wire {
	t.Helper()
	wire, err := stack.NewWire(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		wire.Trouble(stack.Trouble{})
		wire.Down()
	})
	return wire
}

// story cuts the answers to a gateway without a table and to one with a table.
func (g cut) story() error {
	if err := g.asksInVain(); err != nil {
		return fmt.Errorf("without a table: %w", err)
	}
	// An index and its parts are several answers, and parts that came are kept.
	if g.decided && g.truth.parts == 0 {
		return fmt.Errorf("version %d came into force without a table", g.lo)
	}
	g.wire.Trouble(stack.Trouble{})
	if err := g.untilAt(first); err != nil {
		return fmt.Errorf("once nothing was cut: %w", err)
	}
	g.front.lie(g.name, nil)
	g.wire.Trouble(g.trouble)
	g.truth.publish(version{number: first + 1})
	if err := g.asksInVain(); err != nil {
		return fmt.Errorf("with a table: %w", err)
	}
	if g.lo != first && g.truth.parts == 0 {
		return fmt.Errorf("version %d is in force while its table was cut off", g.lo)
	}
	g.wire.Trouble(stack.Trouble{})
	if err := g.untilAt(first + 1); err != nil {
		return fmt.Errorf("once nothing was cut: %w", err)
	}
	return nil
}

// asksInVain waits until the gateway has asked several times.
func (g cut) asksInVain() error {
	return g.until("questions", func() error {
		if n := g.front.asked(g.name); n < 3 {
			return fmt.Errorf("there were %d", n)
		}
		return nil
	})
}

// shortest returns the length of the shortest answer, header included, with a
// table or an index.
func shortest(t *testing.T, kind answers) int {
	t.Helper()
	g := newCut(t, nil, "measured", kind)
	length := 0
	for _, number := range []int{first, first + 1} {
		g.truth.publish(version{number: number})
		n := measure(t, g.wire.Address, "/measured"+table.Path)
		if length == 0 || n < length {
			length = n
		}
	}
	return length
}

// measure returns how many bytes an answer has.
func measure(t *testing.T, address, path string) int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	req.Close = true
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	// That is said only to those who ask for it.
	return len(answer) - len("Connection: close\r\n")
}
