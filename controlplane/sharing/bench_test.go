//go:build linux

package sharing_test

import (
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/ledger"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/controlplane/sharing"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

var (
	benchGateways = flag.Int("gateways", 500, "how many gateways benchmarks have")
	benchRedis    = flag.String("redis", "", "URL of a Redis for benchmarks, and the id of its process behind a comma")
)

// target is how many gateways a control plane must bear on two cores, those of its
// store included.
const target = 500

// BenchmarkGateways has gateways with 100 active buckets each report once a second, and
// tells how much processor time that takes. A report has 100 entries and is a whole
// request of HTTP but for the network; half of the entries are of quotas. The time of a
// machine that does other things too is of no use, so it is processor time that counts.
func BenchmarkGateways(b *testing.B) {
	for _, layout := range []struct {
		name   string
		groups int // of gateways with the same buckets
	}{
		{"each bucket at a tenth", 10},
		{"each bucket at all", 1},
	} {
		b.Run("memory/"+layout.name, func(b *testing.B) {
			benchGatewaysOn(b, store.NewMemory(nil), layout.groups, 0)
		})
		if *benchRedis == "" {
			continue
		}
		b.Run("redis/"+layout.name, func(b *testing.B) {
			url, process, _ := strings.Cut(*benchRedis, ",")
			a, err := store.ParseAddress(fmt.Sprintf("%s?prefix=bench%d", url, time.Now().UnixNano()))
			if err != nil {
				b.Fatal(err)
			}
			s, err := store.Open(a, store.Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			var id int
			if _, err := fmt.Sscan(process, &id); err != nil {
				b.Fatalf("the process of Redis: %v", err)
			}
			benchGatewaysOn(b, s, layout.groups, id)
		})
	}
}

// benchGateway is one that reports.
type benchGateway struct {
	instance string
	group    int
	tenure   int64
	sequence int
}

func benchGatewaysOn(b *testing.B, kept store.Store, groups, redis int) {
	log := slog.New(slog.DiscardHandler)
	shared := sharing.New(sharing.Options{Store: kept, Log: log})
	s := server.New(server.Options{Log: log, Ledger: ledger.New(ledger.Options{Store: kept, Log: log}), Sharing: shared})
	subscriptions := map[string]table.Subscription{}
	for group := range groups {
		for i := range 100 {
			subscriptions[benchSubscription(group, i)] = table.Subscription{Plan: "apps/plan"}
		}
	}
	err := s.Publish(&table.Table{
		Revision: 1, IssuedAt: time.Now(), APIs: map[string]table.API{},
		Plans: map[string]table.Plan{"apps/plan": {
			RateLimit: &table.RateLimit{Limit: 10_000, Period: "1s"}, Quota: &table.Quota{Limit: 1_000_000_000, Period: "720h"},
		}},
		Subscriptions: subscriptions, Applications: map[string]table.Application{}, Keys: map[string][]table.Holder{},
	}, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	handler := s.Handler()
	gateways := make([]*benchGateway, *benchGateways)
	for i := range gateways {
		g := &benchGateway{instance: fmt.Sprintf("%032x", i), group: i % groups}
		gateways[i] = g
		answer := g.post(b, handler, "")
		g.tenure = answer.Tenure.Number
	}
	most := b.N / len(gateways)
	bodies := make([][]string, groups)
	for group := range bodies {
		for n := range most + 3 {
			bodies[group] = append(bodies[group], benchEntries(group, n+1))
		}
	}
	var first sync.WaitGroup
	for _, g := range gateways { // The records are there.
		first.Go(func() { g.post(b, handler, bodies[g.group][0]) })
		time.Sleep(time.Second / time.Duration(len(gateways)))
	}
	first.Wait()
	b.ResetTimer()
	before, begin := processorTime(b, redis), time.Now()
	var all sync.WaitGroup
	for i := range b.N {
		// At even distances, as gateways do that were not started together.
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(len(gateways)))))
		g := gateways[i%len(gateways)]
		body := bodies[g.group][1+i/len(gateways)]
		g.sequence++
		request := g.body(body)
		all.Go(func() { post(b, handler, request) })
	}
	all.Wait()
	took := time.Since(begin)
	used := processorTime(b, redis) - before
	b.StopTimer()
	entries := shared.Entries()
	if entries.Settled < int64(100*(b.N+len(gateways))) {
		b.Errorf("not all entries were settled: %+v", entries)
	}
	perReport := used.Seconds() / float64(b.N)
	b.ReportMetric(perReport*1e6, "cpu-µs/report")
	b.ReportMetric(1/perReport, "gateways/core")
	b.ReportMetric(2/perReport/target, "of-target")
	b.ReportMetric(float64(b.N)/took.Seconds(), "reports/s")
}

func benchSubscription(group, n int) string {
	return fmt.Sprintf("team-%d/weather-subscription-%d", group, n)
}

// benchEntries are those of a gateway's report, as JSON.
func benchEntries(group, n int) string {
	var text strings.Builder
	text.WriteString(`,"entries":[`)
	for i := range 100 {
		kind := usage.KindQuota
		if i%2 == 0 {
			kind = usage.KindRate
		}
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `{"kind":%q,"bucket":"subscription %s","plan":"apps/plan","account":%d,"granted":%d,"used":%d,"told":%d,"wanted":3,"over":1000000000,"part":1}`,
			kind, benchSubscription(group, i), i+1, 3*n+6, 3*n, 3*n-3)
	}
	text.WriteString("]")
	return text.String()
}

func (g *benchGateway) body(entries string) string {
	return fmt.Sprintf(`{"instance":%q,"sequence":%d,"host":"gw","revision":1,"tableAge":0.5,"sharing":true,"tenure":%d,"usage":[{"api":"apps/weather","application":"apps/a","plan":"apps/plan","count":300}]%s}`,
		g.instance, g.sequence, g.tenure, entries)
}

func (g *benchGateway) post(b *testing.B, handler http.Handler, entries string) *usage.Answer {
	g.sequence++
	answer, err := usage.DecodeAnswer([]byte(post(b, handler, g.body(entries))), int64(g.sequence))
	if err != nil {
		b.Fatal(err)
	}
	return answer
}

func post(b *testing.B, handler http.Handler, body string) string {
	r := httptest.NewRequest(http.MethodPost, usage.Path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Errorf("got %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// processorTime returns what this process has used, and that of Redis, if there is one.
func processorTime(b *testing.B, redis int) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	used := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	if redis != 0 {
		used += processTime(b, redis)
	}
	return used
}
