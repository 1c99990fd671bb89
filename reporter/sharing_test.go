package reporter

import (
	"fmt"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/usage"
)

func entriesOf(buckets ...string) []usage.Entry {
	var list []usage.Entry
	for _, bucket := range buckets {
		list = append(list, usage.Entry{Kind: usage.KindQuota, Bucket: bucket, Plan: "apps/p", Account: 1, Over: 1})
	}
	return list
}

// A gateway that shares limits says so at once, tells of them while there is something
// to tell, and else now and then.
func TestSharingIsTold(t *testing.T) {
	g := newRig(t)
	g.next = 60
	g.reporter.Wake()
	g.untilPost()
	if r := g.lastPost(); r.Sharing || r.Tenure != 0 || r.Entries != nil {
		t.Errorf("without shared limits: %+v", r)
	}
	g.sharing = true
	g.reporter.Hurry()
	if took := g.untilPost(); took != gap {
		t.Errorf("told after %s, want %s", took, gap)
	}
	if r := g.lastPost(); !r.Sharing || r.Tenure != 7 || r.Entries != nil {
		t.Errorf("without entries: %+v", r)
	}
	g.entries = entriesOf("a", "b")
	g.untilPost()
	if r := g.lastPost(); len(r.Entries) != 2 || r.Entries[1].Bucket != "b" {
		t.Errorf("with entries: %+v", r)
	}
	g.entries = nil
	if took := g.untilPost(); took > 2*time.Minute {
		t.Errorf("after %s, which is when the gateway is nearly forgotten", took)
	}
	if len(g.answers) != 3 || g.answers[0] == nil || g.answers[2] == nil {
		t.Errorf("got the answers %v, want one to each report that shares", g.answers)
	}
}

// One that hurries comes soon, and not sooner than a gap after the last, however often
// it is asked for.
func TestHurry(t *testing.T) {
	g := newRig(t)
	g.sharing = true
	g.entries = entriesOf("a")
	g.reporter.Hurry() // before Wake
	g.reporter.Wake()
	g.untilPost()
	for i := 0; i < 3; i++ {
		for n := 0; n < 5; n++ {
			g.reporter.Hurry()
		}
		if took := g.untilPost(); took != gap {
			t.Errorf("the next report came after %s, want %s", took, gap)
		}
	}
	if took := g.untilPost(); took != time.Second {
		t.Errorf("afterwards one came after %s, want 1s", took)
	}
	// During a post it waits for the answer.
	g.answer = func(r *usage.Report) feed.Reply {
		g.reporter.Hurry()
		return g.accept(r)
	}
	g.untilPost()
	g.answer = nil
	if took := g.untilPost(); took != gap {
		t.Errorf("the one after that came after %s, want %s", took, gap)
	}
}

// Nothing hurries while reports fail; the first one that is answered is followed soon.
func TestHurryWhileReportsFail(t *testing.T) {
	g := newRig(t)
	g.sharing = true
	g.entries = entriesOf("a")
	g.reporter.Wake()
	g.untilPost()
	g.answer = refusing(503)
	g.untilPost()
	entries := g.posts[len(g.posts)-1]
	for _, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second} {
		g.reporter.Hurry()
		g.entries = entriesOf("a", "b")
		if took := g.untilPost(); took != want {
			t.Errorf("tried again after %s, want %s", took, want)
		}
		if g.posts[len(g.posts)-1] != entries {
			t.Error("what is sent again differs")
		}
	}
	if len(g.answers) != 1 {
		t.Errorf("%d answers, want 1", len(g.answers))
	}
	g.answer = nil
	g.untilPost()
	if took := g.untilPost(); took != gap || len(g.lastPost().Entries) != 2 {
		t.Errorf("after %s: %+v", took, g.lastPost())
	}
	if len(g.answers) != 3 {
		t.Errorf("%d answers, want 3", len(g.answers))
	}
}

// Entries alone are not worth a last report.
func TestLastReportOfSharing(t *testing.T) {
	g := newRig(t)
	g.sharing = true
	g.entries = entriesOf("a")
	g.reporter.Wake()
	g.untilPost()
	g.count("apps/a", 1)
	before := len(g.posts)
	ended := false
	g.reporter.Sleep(func() { ended = true })
	g.step()
	if len(g.posts) != before+1 || !ended {
		t.Errorf("%d last reports, want 1; ended: %t", len(g.posts)-before, ended)
	}
	g.wantCounted("apps/a", 1)
}

// A report that will never be answered is settled all the same.
func TestUnansweredShares(t *testing.T) {
	g := newRig(t)
	g.sharing = true
	g.entries = entriesOf("a")
	g.reporter.Wake()
	g.answer = refusing(400)
	g.untilPost()
	if len(g.answers) != 1 || g.answers[0] != nil {
		t.Errorf("dropped: got the answers %v, want one that is nil", g.answers)
	}
	g.accepted = 9
	g.answer = nil
	g.untilPost()
	if len(g.answers) != 2 || g.answers[1] != nil {
		t.Errorf("skipped: got the answers %v, want another one that is nil", g.answers)
	}
}

// Where limits are shared, an endpoint is asked again that says that it takes no reports,
// or wants to be left alone for long.
func TestSharingGoesOn(t *testing.T) {
	for _, status := range []int{404, 405, 501, 503} {
		g := newRig(t)
		g.sharing = true
		g.entries = entriesOf("a")
		g.reporter.Wake()
		g.untilPost()
		g.lines = nil
		g.answer = refusing(status)
		g.untilPost()
		wants := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, maxRetry, maxRetry}
		for _, want := range wants {
			g.reporter.Hurry()
			if took := g.untilPost(); took != want {
				t.Errorf("status %d: tried again after %s, want %s", status, took, want)
			}
		}
		g.answer = func(r *usage.Report) feed.Reply {
			reply := refusing(status)(r)
			reply.RetryAfter = time.Hour
			return reply
		}
		g.untilPost()
		if took := g.untilPost(); took != maxRetry {
			t.Errorf("status %d with Retry-After: tried again after %s, want %s", status, took, maxRetry)
		}
		g.answer = nil
		g.untilPost()
		g.wantLines(fmt.Sprintf("! reports to http://e: status %d; 0 requests wait to be reported", status), "+ reports to http://e: accepted again")
	}
}
