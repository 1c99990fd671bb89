package ledger

import (
	"errors"
	"time"
)

const (
	// newAtOnce is how many gateways may begin to report at the same time: as many as
	// are known. After that another one may for each newEvery that passes. So the
	// store has so many records of a control plane's newcomers at most, and one for
	// each newEvery of the recordTTL that it keeps them for.
	newAtOnce = maxGateways
	newEvery  = time.Second
	// crowdedFor is how long no gateway must have been turned away for that to be over.
	crowdedFor = time.Minute
)

// ErrCrowded says that more gateways are new than can be taken in, so that one of them
// has to come again later.
var ErrCrowded = errors.New("too many gateways report for the first time, or there are too many: try again later")

// newcomers bound how many gateways begin to report.
type newcomers struct {
	// full is when as many as may be can begin again.
	full time.Time

	// turnedAway counts those since it began that there are too many; last is when the
	// last one was.
	turnedAway int
	last       time.Time
}

// enter takes in a gateway that is new, or is false.
func (n *newcomers) enter(now time.Time) bool {
	if now.After(n.full) || n.full.Sub(now) > newAtOnce*newEvery { // the clock was set back
		n.full = now
	}
	if n.full.Sub(now) > (newAtOnce-1)*newEvery {
		return false
	}
	n.full = n.full.Add(newEvery)
	return true
}

// leave takes back that one was taken in.
func (n *newcomers) leave() { n.full = n.full.Add(-newEvery) }

// enter makes room for a gateway that nobody knows yet, or fails with ErrCrowded.
func (l *Ledger) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, now := &l.newcomers, l.now()
	if !l.gateways.full(now) && n.enter(now) {
		return nil
	}
	if n.turnedAway == 0 {
		l.log.Error("more gateways report for the first time than can be taken in, or there are too many: some have to wait",
			"gateways", len(l.gateways.by), "most", maxGateways, "newAtOnce", newAtOnce, "thenOneEvery", newEvery.String())
	}
	n.turnedAway++
	n.last = now
	return ErrCrowded
}

// leave takes back that a gateway has entered whose report was not taken.
func (l *Ledger) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newcomers.leave()
}

// noteRoomLocked tells when all new gateways can be taken in again.
func (l *Ledger) noteRoomLocked() {
	n := &l.newcomers
	if n.turnedAway == 0 || l.now().Sub(n.last) < crowdedFor {
		return
	}
	l.log.Info("new gateways are taken in again", "turnedAway", n.turnedAway)
	n.turnedAway = 0
}
