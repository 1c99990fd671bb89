package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// schedule is what happens to a world, round by round. Each round begins and ends
// with the newest version in force everywhere.
type schedule struct {
	number int
	plan   plan
	rounds []round
}

// round is one fault, and what else happens meanwhile.
type round struct {
	fault fault
	// during and after are how many edits there are of the manifests during the
	// fault, and after it.
	during, after int
	// nobody says that the first of those during it leaves all applications out.
	nobody bool
	// event happens to the host during the fault.
	event event
	// hold is for how long there are requests before and after the event.
	hold time.Duration
}

// event is what happens to a host.
type event string

const (
	nothing event = "nothing"
	reload  event = "reload"
	restart event = "restart"
)

// fault is something that goes wrong, until it ends.
type fault struct {
	name       string
	begin, end func(t *testing.T, w *world) error
	// spares says which gateways get new versions all the same; nil means none.
	spares func(s setup) bool
}

// sparesAll is for faults that keep no gateway from the control plane.
func sparesAll(setup) bool { return true }

// sparesOthers is for faults of wires: whoever has another one goes there.
func sparesOthers(wires []int) func(s setup) bool {
	return func(s setup) bool {
		return slices.ContainsFunc(s.Wires, func(i int) bool { return !slices.Contains(wires, i) })
	}
}

func (s schedule) String() string {
	text := fmt.Sprintf("schedule %d: %+v\n", s.number, s.plan)
	for i, r := range s.rounds {
		text += fmt.Sprintf("  round %d: %s; %d edits during and %d after it (nobody: %t); %s; %s each\n",
			i+1, r.fault.name, r.during, r.after, r.nobody, r.event, r.hold)
	}
	return text
}

// What can go wrong with the control plane.

func killed(unreachable bool) fault {
	return fault{
		name: fmt.Sprintf("control plane killed (unreachable: %t)", unreachable),
		begin: func(_ *testing.T, w *world) error {
			if unreachable {
				w.wires[0].Down()
				w.wires[1].Down()
			}
			return w.plane.Kill()
		},
		end: func(t *testing.T, w *world) error {
			// It keeps no state, so a fresh folder is as good.
			w.options.Dir = filepath.Join(w.dir, fmt.Sprintf("plane-%d", w.newest()))
			return errors.Join(os.MkdirAll(w.options.Dir, 0o700), w.start(t), w.wires[0].Up(), w.wires[1].Up())
		},
	}
}

func stopped() fault {
	return fault{
		name:  "control plane stopped in good order",
		begin: func(_ *testing.T, w *world) error { return w.plane.Stop() },
		end:   func(t *testing.T, w *world) error { return w.start(t) },
	}
}

func paused() fault {
	return fault{
		name:  "control plane paused",
		begin: func(_ *testing.T, w *world) error { return w.plane.Pause() },
		end:   func(_ *testing.T, w *world) error { return w.plane.Resume() },
	}
}

// What can go wrong on the way.

func down(wires ...int) fault {
	return fault{
		name: fmt.Sprintf("wires %v down", wires),
		begin: func(_ *testing.T, w *world) error {
			for _, i := range wires {
				w.wires[i].Down()
			}
			return nil
		},
		end:    func(_ *testing.T, w *world) error { return errors.Join(w.wires[0].Up(), w.wires[1].Up()) },
		spares: sparesOthers(wires),
	}
}

func troubled(trouble stack.Trouble, wires ...int) fault {
	set := func(w *world, to stack.Trouble) error {
		for _, i := range wires {
			w.wires[i].Trouble(to)
		}
		return nil
	}
	return fault{
		name:   fmt.Sprintf("wires %v with %+v", wires, trouble),
		begin:  func(_ *testing.T, w *world) error { return set(w, trouble) },
		end:    func(_ *testing.T, w *world) error { return set(w, stack.Trouble{}) },
		spares: sparesOthers(wires),
	}
}

// What can go wrong with what the control plane says, and with the disk.

func lying(to string, told func(s setup) *lie) fault {
	set := func(w *world, told func(s setup) *lie) error {
		for _, g := range w.gateways {
			w.front.lie(g.name, told(g.setup))
		}
		return nil
	}
	return fault{
		name:  "lies: " + to,
		begin: func(_ *testing.T, w *world) error { return set(w, told) },
		end:   func(_ *testing.T, w *world) error { return set(w, func(setup) *lie { return nil }) },
	}
}

func diskLost() fault {
	return fault{
		name:   "the folder of cache files replaced by a file",
		begin:  func(_ *testing.T, w *world) error { return w.lose() },
		end:    func(_ *testing.T, w *world) error { return w.find() },
		spares: sparesAll,
	}
}

func noFault() fault {
	do := func(*testing.T, *world) error { return nil }
	return fault{name: "no fault", begin: do, end: do, spares: sparesAll}
}

// The random schedules. Those of a batch share a host, so what happens to that
// depends on the batch.

const batchSize = 10

// lies are those that random schedules choose from, in groups that come equally
// often.
type lies struct {
	signed, unsigned [][]*lie
}

func newLies(t *testing.T) lies {
	t.Helper()
	common := [][]*lie{revisionLies(), httpLies(), badFiles(t, "tables", "", badTable)}
	return lies{
		signed:   append(slices.Clone(common), signatureLies()),
		unsigned: append(slices.Clone(common), unsignedLies()),
	}
}

// draw returns the schedule of a number.
func draw(number int, all lies) schedule {
	r := rand.New(rand.NewPCG(*seed, uint64(number)))
	batch := rand.New(rand.NewPCG(*seed, 1<<32+uint64(number/batchSize)))
	s := schedule{number: number, plan: plan{Parts: coin(r, 2), Revision: pick(r, "clock", "mtime")}}
	for range 2 {
		s.plan.Gateways = append(s.plan.Gateways, setup{
			Wait: pick(r, "", "2s"), Cached: coin(r, 2), Signed: coin(r, 2), Stale: coin(r, 4),
			Wires: pick(r, []int{0}, []int{0, 1}, []int{1, 0}),
		})
	}
	for range 3 {
		s.rounds = append(s.rounds, round{
			fault: drawFault(r, all), during: r.IntN(3), after: r.IntN(2), nobody: coin(r, 8),
			event: pick(batch, nothing, nothing, reload, restart),
			hold:  time.Duration(r.IntN(700)) * time.Millisecond,
		})
	}
	return s
}

// TestFaults breaks one thing after the other, reloads the configuration
// meanwhile, and restarts Traefik meanwhile.
func TestFaults(t *testing.T) {
	gateways := []setup{
		{Wires: []int{0}},
		{Wires: []int{0}, Wait: "2s", Signed: true},
		{Wires: []int{0, 1}, Wait: "2s", Cached: true},
		{Wires: []int{1}, Signed: true, Cached: true},
	}
	var all []schedule
	for i, f := range []fault{
		noFault(), killed(false), killed(true), stopped(), paused(), down(0), down(0, 1),
		troubled(stack.Trouble{Stalled: true}, 0), troubled(stack.Trouble{Stalled: true}, 0, 1),
		troubled(stack.Trouble{Slow: time.Millisecond / 10}, 0, 1), troubled(stack.Trouble{Slow: 20 * time.Millisecond}, 0, 1),
		troubled(stack.Trouble{Cuts: true}, 0, 1), troubled(stack.Trouble{Cuts: true, Cut: 600, Reset: true}, 0, 1),
		diskLost(),
	} {
		s := schedule{number: i, plan: plan{Parts: i%2 == 0, Revision: []string{"clock", "mtime"}[i/2%2], Gateways: gateways}}
		for _, e := range []event{nothing, reload, restart} {
			s.rounds = append(s.rounds, round{fault: f, during: 1, event: e, hold: 500 * time.Millisecond})
		}
		all = append(all, s)
	}
	run(t, startTraefik(t), all)
}

func coin(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func drawFault(r *rand.Rand, all lies) fault {
	wires := pick(r, []int{0}, []int{1}, []int{0, 1}, []int{0, 1})
	switch r.IntN(12) {
	case 0:
		return killed(coin(r, 2))
	case 1:
		return stopped()
	case 2:
		return paused()
	case 3:
		return down(wires...)
	case 4:
		return troubled(stack.Trouble{Stalled: true}, wires...)
	case 5:
		return troubled(stack.Trouble{Slow: time.Duration(1+r.IntN(10)) * time.Millisecond}, wires...)
	case 6, 7:
		return troubled(stack.Trouble{Cuts: true, Cut: r.IntN(2500), Reset: coin(r, 2)}, wires...)
	case 8:
		return diskLost()
	case 9:
		return noFault()
	default:
		signed, unsigned := pick(r, pick(r, all.signed...)...), pick(r, pick(r, all.unsigned...)...)
		return lying(fmt.Sprintf("%s, or unsigned, %s", signed.name, unsigned.name), func(s setup) *lie {
			if s.Signed {
				return signed
			}
			return unsigned
		})
	}
}

// TestSchedules runs random schedules.
func TestSchedules(t *testing.T) {
	all := newLies(t)
	for _, kind := range hosts {
		n := *schedules
		if kind.name == "traefik" {
			n = *inTraefik
		}
		if *only >= 0 {
			n = *only + 1
		}
		t.Run(kind.name, func(t *testing.T) {
			for begin := 0; begin < n; begin += batchSize {
				var batch []schedule
				for number := begin; number < min(n, begin+batchSize); number++ {
					if *only < 0 || *only == number {
						batch = append(batch, draw(number, all))
					}
				}
				if len(batch) == 0 {
					continue
				}
				t.Run(fmt.Sprintf("from %d", begin), func(t *testing.T) {
					t.Parallel()
					run(t, kind.start(t), batch)
				})
			}
		})
	}
}

// run runs schedules, each in a world of its own, all in one host.
func run(t *testing.T, h host, batch []schedule) {
	t.Helper()
	worlds := make([]*world, len(batch))
	var gateways []*gateway
	for i, s := range batch {
		var err error
		if worlds[i], err = newWorld(t, h, filepath.Join(t.TempDir(), "world"), fmt.Sprintf("w%d", s.number), s.plan); err != nil {
			t.Fatal(err)
		}
		for _, g := range worlds[i].gateways {
			gateways = append(gateways, g.gateway)
		}
	}
	if err := h.configure(gateways); err != nil {
		t.Fatal(err)
	}
	together := &barrier{members: len(batch)}
	together.changed = sync.NewCond(&together.mu)
	for i, err := range atOnce(len(batch), func(i int) error {
		defer together.leave()
		return worlds[i].run(t, h, batch[i], together, worlds)
	}) {
		if err != nil {
			t.Errorf("%v\n%s\nTo repeat it: go test ./faults -run '%s' -seed %d -schedule %d",
				err, batch[i], strings.SplitN(t.Name(), "/", 2)[0], *seed, batch[i].number)
		}
	}
}

// run runs one schedule.
func (w *world) run(t *testing.T, h host, s schedule, together *barrier, worlds []*world) error {
	if err := w.settle(); err != nil {
		return fmt.Errorf("at the beginning: %w", err)
	}
	for i, r := range s.rounds {
		if err := w.round(t, h, r, together, worlds); err != nil {
			return fmt.Errorf("round %d (%s): %w", i+1, r.fault.name, err)
		}
	}
	return nil
}

func (w *world) round(t *testing.T, h host, r round, together *barrier, worlds []*world) error {
	edit := func(n int, nobody bool) error {
		for i := range n {
			if err := w.edit(nobody && i == 0); err != nil {
				return err
			}
			if err := w.probeFor(r.hold / 4); err != nil {
				return err
			}
		}
		return nil
	}
	w.disturb()
	if err := r.fault.begin(t, w); err != nil {
		return err
	}
	if err := edit(r.during, r.nobody); err != nil {
		return fmt.Errorf("during it: %w", err)
	}
	if err := w.probeFor(r.hold); err != nil {
		return fmt.Errorf("during it: %w", err)
	}
	if err := w.settleSpared(r.fault); err != nil {
		return fmt.Errorf("during it: %w", err)
	}
	if err := together.wait(func() error { return happen(h, r.event, worlds) }); err != nil {
		return fmt.Errorf("%s: %w", r.event, err)
	}
	if err := w.probeFor(r.hold); err != nil {
		return fmt.Errorf("during it, after %s: %w", r.event, err)
	}
	if err := r.fault.end(t, w); err != nil {
		return err
	}
	if err := edit(r.after, false); err != nil {
		return fmt.Errorf("after it: %w", err)
	}
	if err := w.settle(); err != nil {
		return fmt.Errorf("after it: %w", err)
	}
	return nil
}

// happen makes an event happen to a host, while no world uses it.
func happen(h host, e event, worlds []*world) error {
	switch e {
	case reload:
		return h.reload()
	case restart:
		return h.restart(func() {
			for _, w := range worlds {
				w.forget()
			}
		})
	}
	return nil
}

// barrier is where worlds that share a host wait for each other.
type barrier struct {
	mu      sync.Mutex
	changed *sync.Cond
	members int
	waiting int
	turn    int
	err     error // of the last turn
	do      func() error
}

// wait returns when all members wait and one of them has done what is to be done
// meanwhile. All return the same error.
func (b *barrier) wait(do func() error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting++
	b.do = do
	for turn := b.turn; turn == b.turn; {
		if b.waiting == b.members {
			b.passLocked()
		} else {
			b.changed.Wait()
		}
	}
	return b.err
}

func (b *barrier) passLocked() {
	b.err = b.do()
	b.waiting = 0
	b.turn++
	b.changed.Broadcast()
}

// leave is for a member that has come to its end.
func (b *barrier) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members--
	if b.members > 0 && b.waiting == b.members {
		b.passLocked()
	}
}
