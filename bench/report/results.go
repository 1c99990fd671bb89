// Package report tells what was measured: as JSON, as tables and as a picture.
package report

import (
	"slices"

	"github.com/tollgate-apim/tollgate/bench/record"
	"github.com/tollgate-apim/tollgate/bench/stats"
)

// The names of the rows that others are compared with.
const (
	Bare         = "bare"
	Noop         = "noop"
	Native       = "native"
	Tollgate     = "tollgate"
	Full         = "tollgate-full"
	APIs         = "tollgate-apis"
	Shared       = "tollgate-shared"
	SharedFull   = "tollgate-shared-full"
	Unknown      = "unknown-key"
	Missing      = "no-key"
	Limited      = "rate-limited"
	FewKeys      = "few-keys"
	ManyKeys     = "many-keys"
	ManyKeysUsed = "many-keys-used"
)

// Results is everything that one run measured. The slices in its rows have one
// value for each round.
type Results struct {
	Date   string `json:"date"`
	Commit string `json:"commit"`
	// Quick says that the run was a short one, to try.
	Quick   bool    `json:"quick"`
	Machine Machine `json:"machine"`
	Setup   Setup   `json:"setup"`
	Rows    []Row   `json:"rows"`

	Activation  *Activation  `json:"activation,omitempty"`
	Memory      *Memory      `json:"memory,omitempty"`
	Change      *Change      `json:"change,omitempty"`
	UnknownKeys *UnknownKeys `json:"unknownKeys,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	System    string `json:"system"`
	Go        string `json:"go"`
	Traefik   string `json:"traefik"`
	// Others is which share of the machine something else used while CPU was
	// timed.
	Others stats.Spread `json:"others"`
}

// Setup is how it was measured.
type Setup struct {
	Seed        uint64  `json:"seed"`
	Rounds      int     `json:"rounds"`
	Seconds     float64 `json:"seconds"` // of each measurement
	Connections int     `json:"connections"`
	// Rate is the fixed rate at which latencies were measured, in requests a
	// second.
	Rate float64 `json:"rate"`
}

// Row is one way through the gateway. What was not measured is empty.
type Row struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Status is that of every answer.
	Status int `json:"status"`
	// Foreign is the name of somebody else's plugin, and Keys how many keys it
	// was given.
	Foreign string `json:"foreign,omitempty"`
	Keys    int    `json:"keys,omitempty"`

	// CPU is the processor time of Traefik for a request, in µs.
	CPU []float64 `json:"cpu,omitempty"`
	// PerSecond is how many requests were answered a second in a closed loop.
	PerSecond []float64 `json:"perSecond,omitempty"`
	// P50, P99 and P999 are latencies at the fixed rate, in µs.
	P50  []float64 `json:"p50,omitempty"`
	P99  []float64 `json:"p99,omitempty"`
	P999 []float64 `json:"p999,omitempty"`
	// Allocations and Bytes are what Traefik allocates for a request.
	Allocations float64 `json:"allocations,omitempty"`
	Bytes       float64 `json:"bytes,omitempty"`

	Summary *Summary `json:"summary,omitempty"`
}

// Summary is what follows from the rounds of a row.
type Summary struct {
	CPU       stats.Spread `json:"cpu"`
	PerSecond stats.Spread `json:"perSecond"`
	// ToBare and ToNoop are ratios of CPU to the same round of these rows, and
	// PerSecondToBare one of requests a second.
	ToBare          stats.Spread `json:"toBare"`
	ToNoop          stats.Spread `json:"toNoop"`
	PerSecondToBare stats.Spread `json:"perSecondToBare"`
	// Added is the CPU beyond that of the bare row in the same round, in µs.
	Added stats.Spread `json:"added"`
	// OfNative is the median of Added as a multiple of the native row's.
	OfNative float64 `json:"ofNative"`
}

// Activation is what admitted requests wait for at half of the capacity while a
// large table is put in force, and while nothing else happens. Latencies are in
// µs, one value for each time.
type Activation struct {
	Keys      int       `json:"keys"`
	Parts     int       `json:"parts,omitempty"` // that the table comes in
	MegaBytes float64   `json:"megaBytes"`       // of JSON
	Rate      float64   `json:"rate"`            // requests a second
	Seconds   []float64 `json:"seconds"`         // from the request for the table until it is in force
	QuietP50  []float64 `json:"quietP50"`
	QuietP99  []float64 `json:"quietP99"`
	BusyP50   []float64 `json:"busyP50"`
	BusyP99   []float64 `json:"busyP99"`
	BusyMax   []float64 `json:"busyMax"`
}

// Memory is what a large table takes in the gateway.
type Memory struct {
	Keys int `json:"keys"`
	// HeapPerKey is what stays on the heap after a collection, in bytes, and
	// HeapPerKeyWhole the same for a table that came as one document.
	HeapPerKey      float64 `json:"heapPerKey"`
	HeapPerKeyWhole float64 `json:"heapPerKeyWhole,omitempty"`
	// ResidentMB is what Traefik has of the machine's memory after the table is
	// in force, and PeakMB the most that it ever had. BeforeMB is what it had
	// before.
	BeforeMB   float64 `json:"beforeMB"`
	ResidentMB float64 `json:"residentMB"`
	PeakMB     float64 `json:"peakMB"`
}

// Change is what a gateway that does nothing else does for one changed key in a
// large table in parts, and what for the table as a whole. CPU is in ms.
type Change struct {
	Keys       int     `json:"keys"`
	Parts      int     `json:"parts"`
	TableBytes int     `json:"tableBytes"`
	Bytes      int     `json:"bytes"`
	WholeCPU   float64 `json:"wholeCPU"` // of a table that comes as one document
	TableCPU   float64 `json:"tableCPU"`
	CPU        float64 `json:"cpu"`
}

// UnknownKeys is what many different unknown keys leave behind.
type UnknownKeys struct {
	Keys       int     `json:"keys"`
	BeforeMB   float64 `json:"beforeMB"`
	AfterMB    float64 `json:"afterMB"`
	HeapMB     float64 `json:"heapMB"` // growth of the heap after a collection, from fewer keys
	HeapOfKeys int     `json:"heapOfKeys"`
}

// Row returns a row by its name, or nil.
func (r *Results) Row(name string) *Row {
	i := slices.IndexFunc(r.Rows, func(row Row) bool { return row.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Rows[i]
}

// Summarize works out the summaries of all rows.
func (r *Results) Summarize() {
	var none Row
	base := func(name string) *Row {
		if row := r.Row(name); row != nil {
			return row
		}
		return &none
	}
	bare, noop, native := base(Bare), base(Noop), base(Native)
	nativeAdds := stats.Of(stats.Differences(native.CPU, bare.CPU)).Median
	for i := range r.Rows {
		row := &r.Rows[i]
		s := &Summary{
			CPU:             stats.Of(row.CPU),
			PerSecond:       stats.Of(row.PerSecond),
			ToBare:          stats.Of(stats.Ratios(row.CPU, bare.CPU)),
			ToNoop:          stats.Of(stats.Ratios(row.CPU, noop.CPU)),
			PerSecondToBare: stats.Of(stats.Ratios(row.PerSecond, bare.PerSecond)),
			Added:           stats.Of(stats.Differences(row.CPU, bare.CPU)),
		}
		if nativeAdds > 0 {
			s.OfNative = s.Added.Median / nativeAdds
		}
		row.Summary = s
	}
}

// Load reads results.
func Load(path string) (*Results, error) {
	r := &Results{}
	if err := record.Load(path, r); err != nil {
		return nil, err
	}
	r.Summarize()
	return r, nil
}

// Section returns what the page says of r: the tables, and the picture beside the
// page if there is one.
func Section(r *Results) string {
	if !timed(r) {
		return Markdown(r)
	}
	return "![Processor time of Traefik for a request, by route](performance.svg)\n\n" + Markdown(r)
}

// Place is the name of the place that Section has on the page.
const Place = "results"
