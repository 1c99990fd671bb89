package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/bench/record"
)

// measured returns results as a run would.
func measured() *Results {
	r := &Results{
		Date: "2026-11-21", Commit: "0123456789",
		Machine: Machine{Processor: "A <fast> one", Cores: 2, System: "linux/amd64", Go: "go1.26", Traefik: "v3.6.12"},
		Setup:   Setup{Seed: 7, Rounds: 3, Seconds: 2, Connections: 16, Rate: 5000},
		Rows: []Row{
			{Name: Bare, Title: "no middleware", Status: 200, CPU: []float64{60, 50, 70}, PerSecond: []float64{10_000, 12_000, 11_000}, P50: []float64{250}, P99: []float64{1500}, P999: []float64{4000}},
			{Name: Noop, Title: "no-op", Status: 200, CPU: []float64{66, 55, 77}, PerSecond: []float64{9000, 9000, 9000}},
			{Name: Native, Title: "native", Status: 200, CPU: []float64{70, 60, 80}, PerSecond: []float64{9000, 9000, 9000}},
			{Name: Tollgate, Title: "Tollgate: rate limit", Status: 200, CPU: []float64{75, 65, 95}, PerSecond: []float64{8000, 9600, 9900}, Allocations: 340.4},
			{Name: Shared, Title: "Tollgate: rate limit, shared", Status: 200, CPU: []float64{78, 65, 95}, PerSecond: []float64{8000, 9600, 9900}},
			{Name: Unknown, Title: "Tollgate refuses", Status: 401, CPU: []float64{45, 26, 38}, PerSecond: []float64{9000, 9000, 9000}},
			{Name: "other-1", Title: "other, 1 key", Foreign: "other", Keys: 1, CPU: []float64{100, 90, 110}, PerSecond: []float64{1, 1, 1}},
			{Name: "dear-1", Title: "dear, 1 key", Foreign: "dear", Keys: 1, CPU: []float64{200, 190, 210}, PerSecond: []float64{1, 1, 1}},
			{Name: "unmeasured", Title: "unmeasured"},
		},
		UnknownKeys: &UnknownKeys{Keys: 1_000_000, BeforeMB: 100, AfterMB: 103},
		Change:      &Change{Keys: 1_000_000, Parts: 1024, TableBytes: 300_000_000, Bytes: 380_000, WholeCPU: 4600, TableCPU: 6000, CPU: 90},
		Memory:      &Memory{Keys: 1_000_000, HeapPerKey: 351.4, HeapPerKeyWhole: 871.4, BeforeMB: 100, ResidentMB: 1200, PeakMB: 2000},
		Activation: &Activation{Keys: 1_000_000, MegaBytes: 300, Rate: 4000, Seconds: []float64{5},
			QuietP50: []float64{200}, QuietP99: []float64{1000}, BusyP50: []float64{400}, BusyP99: []float64{2500}, BusyMax: []float64{9000}},
	}
	r.Summarize()
	return r
}

func TestSummarize(t *testing.T) {
	s := measured().Row(Tollgate).Summary
	for _, test := range []struct {
		what      string
		got, want float64
	}{
		{"CPU", s.CPU.Median, 75},
		{"of bare", s.ToBare.Median, 1.3}, // 1.25, 1.3, 1.357
		{"of no-op, at most", s.ToNoop.Max, 95.0 / 77},
		{"added", s.Added.Median, 15}, // 15, 15, 25
		{"of native", s.OfNative, 1.5},
		{"requests, of bare", s.PerSecondToBare.Median, 0.8},
	} {
		if math.Abs(test.got-test.want) > 1e-9 {
			t.Errorf("%s: got %v, want %v", test.what, test.got, test.want)
		}
	}
}

func TestTargets(t *testing.T) {
	got := map[string]Target{}
	for _, target := range Targets(measured()) {
		got[target.What] = target
	}
	for _, test := range []struct {
		what  string
		value float64
		met   bool
	}{
		{"CPU of an admitted request, of the bare route's", 1.3, true},
		{"CPU added, of what basicAuth + rateLimit add", 1.5, true},
		{"requests a second, of the bare route's", 0.8, true},
		{"CPU added, of what the cheapest other plugin adds with 1 key", 15.0 / 40, true},
		{"CPU added with shared limits, of that with local ones, a rate limit", 18.0 / 15, false}, // 18, 15, 25
		{"CPU of refusing an unknown key, of an admitted request's", 0.4, true},
		{"heap for each of 1,000,000 keys, bytes", 351.4, true},
		{"fetched for one changed key of 1,000,000, % of the table", 38.0 / 300, true},
		{"CPU for one changed key of 1,000,000, % of the table's", 1.5, false},
		{"memory after 1,000,000 different unknown keys, MB more", 3, true},
		{"99 % latency while a table of 1,000,000 keys is loaded, of the quiet one", 2.5, false},
	} {
		target, ok := got[test.what]
		if !ok || math.Abs(target.Value-test.value) > 1e-9 || target.Met() != test.met {
			t.Errorf("%s: got %+v, met %t; want %v, met %t", test.what, target, target.Met(), test.value, test.met)
		}
		delete(got, test.what)
	}
	for what := range got {
		t.Errorf("%s: not expected", what)
	}
	if got := Targets(&Results{}); got != nil {
		t.Errorf("of nothing: got %v", got)
	}
}

func TestMarkdown(t *testing.T) {
	got := Markdown(measured())
	for _, want := range []string{
		"| Tollgate: rate limit | 75.0 (65.0–95.0) | 1.30 | 1.18 | 1.50 | 9,600 | 0.80 | 340 |\n",
		"| Tollgate refuses | 38.0 (26.0–45.0) | 0.54 | 0.49 | – |",
		"| no middleware | 0.25 (0.25–0.25) | 1.50 (1.50–1.50) | 4.00 (4.00–4.00) |\n",
		"Latency at 5,000 requests a second",
		"**351 bytes of heap for each key** after a collection if it comes in parts, and 871 as one document.",
		"6.0 s of CPU in 1,024 parts, and 4.6 s as one document. One changed key then costs **380 kB and 90 ms of CPU**, 0.13 % and 1.50 % of that.",
		"| 2.50 | ≤ 2 |  | **missed** |",
		"| 1.30 | ≤ 1.3 | ≤ 1.18 | met |",
		"| 0.80 | ≥ 0.8 | ≥ 0.9 | met |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("found no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "unmeasured") || strings.Contains(got, "NaN") {
		t.Errorf("tells what was not measured:\n%s", got)
	}
}

// What was not measured is left out, not told as nothing.
func TestMarkdownOfLittle(t *testing.T) {
	r := &Results{Rows: []Row{{Name: Bare, Title: "no middleware", CPU: []float64{60}, PerSecond: []float64{1}}}}
	r.Summarize()
	got := Markdown(r)
	for _, word := range []string{"NaN", "Inf", "Latency", "Memory", "activated", "set ourselves"} {
		if strings.Contains(got, word) {
			t.Errorf("found %q in\n%s", word, got)
		}
	}
}

func TestDisturbed(t *testing.T) {
	r := measured()
	if text := Markdown(r); Disturbed(r) || strings.Contains(text, "too much") || strings.Contains(text, "cannot be told") {
		t.Errorf("a calm run is told as disturbed:\n%s", text)
	}
	r.Machine.Others.Median = 0.2
	if text := Markdown(r); !Disturbed(r) || !strings.Contains(text, "too much") || strings.Contains(text, "| met |") {
		t.Errorf("a disturbed run is told as calm:\n%s", text)
	}
}

// Counts are worth telling without times.
func TestMarkdownOfCounts(t *testing.T) {
	r := &Results{
		Rows:        []Row{{Name: Bare, Title: "no middleware", Allocations: 107, Bytes: 9332}},
		Memory:      &Memory{Keys: 10, HeapPerKey: 880},
		UnknownKeys: &UnknownKeys{HeapOfKeys: 5, HeapMB: 0.1},
	}
	r.Summarize()
	got := Markdown(r)
	for _, want := range []string{"| no middleware | 107 | 9,332 |", "**880 bytes of heap for each key** after a collection.", "grows by 0.1 MB through 5 different"} {
		if !strings.Contains(got, want) {
			t.Errorf("found no %q in\n%s", want, got)
		}
	}
	for _, word := range []string{"µs", " 0 MB", "set ourselves", "performance.svg"} {
		if strings.Contains(got, word) {
			t.Errorf("found %q in\n%s", word, got)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 123456: "123,456", 1_000_000: "1,000,000", -1000: "-1,000", -100: "-100"} {
		if got := Thousands(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestPicture(t *testing.T) {
	picture := Picture(measured())
	decoder := xml.NewDecoder(strings.NewReader(picture))
	bars, spreads := 0, 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, picture)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		for _, attribute := range start.Attr {
			if strings.ContainsAny(attribute.Value, "%!") || strings.Contains(attribute.Value, "NaN") {
				t.Errorf("%s: %s", attribute.Name.Local, attribute.Value)
			}
			switch {
			case attribute.Value == "spread":
				spreads++
			case strings.HasPrefix(attribute.Value, "bar"):
				bars++
			}
		}
	}
	if bars != 8 || spreads != 8 {
		t.Errorf("got %d bars and %d spreads, want 8", bars, spreads)
	}
	for _, want := range []string{"prefers-color-scheme: dark", ">Tollgate: rate limit<", `class="bar ours"`, ">75<"} {
		if !strings.Contains(picture, want) {
			t.Errorf("found no %q", want)
		}
	}
}

func TestGridStep(t *testing.T) {
	for most, want := range map[float64]float64{1: 0.2, 60: 10, 99: 20, 130: 20, 350: 50, 351: 100, 1000: 200} {
		if got := gridStep(most); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v: got %v, want %v", most, got, want)
		}
	}
}

func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	want := measured()
	if err := record.Save(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if Markdown(got) != Markdown(want) || Picture(got) != Picture(want) {
		t.Error("what was read is told in another way than what was written")
	}
}

// The documentation tells of the committed results, and of no others.
func TestDocumentation(t *testing.T) {
	results, err := Load("../results.json")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	filled, err := record.Fill(string(page), Place, Section(results))
	if err != nil {
		t.Fatal(err)
	}
	if filled != string(page) {
		t.Error("docs/performance.md is not what bench/results.json says: run make bench-render")
	}
	picture, err := os.ReadFile("../../docs/performance.svg")
	if err != nil {
		t.Fatal(err)
	}
	if string(picture) != Picture(results) {
		t.Error("docs/performance.svg is not what bench/results.json says: run make bench-render")
	}
}
