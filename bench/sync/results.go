package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tollgate-apim/tollgate/bench/report"
)

// results are what a run measured.
type results struct {
	Date      string `json:"date"`
	Commit    string `json:"commit"`
	Quick     bool   `json:"quick"`
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	Go        string `json:"go"`

	Revocation *revocation `json:"revocation,omitempty"`
	Waiting    []waiting   `json:"waiting,omitempty"`
	Change     *change     `json:"change,omitempty"`
}

// revocation is how long changes took to the last of some gateways.
type revocation struct {
	Gateways     int       `json:"gateways"`
	Changes      int       `json:"changes"`
	Keys         int       `json:"keys"`
	Milliseconds []float64 `json:"milliseconds"`
}

// waiting is what gateways cost that wait.
type waiting struct {
	Gateways int     `json:"gateways"`
	TLS      bool    `json:"tls"`
	Seconds  float64 `json:"seconds"`
	// CPU is the share of one core that the control plane used.
	CPU             float64 `json:"cpu"`
	BytesPerGateway int64   `json:"bytesPerGateway"`
}

// change is what one changed key costs, beside the whole table.
type change struct {
	Keys    int  `json:"keys"`
	Changes int  `json:"changes"`
	Whole   cost `json:"whole"`
	One     cost `json:"one"` // in the mean
	// Resident is what the control plane has in memory, in bytes.
	Resident     int64     `json:"resident"`
	Milliseconds []float64 `json:"milliseconds"` // until the key is refused
}

// cost is what crossed the network, in bytes, and processor time in milliseconds.
type cost struct {
	Bytes        int64   `json:"bytes"`
	Gateway      float64 `json:"gateway"`
	ControlPlane float64 `json:"controlPlane"`
}

// percentile returns the least of values that p percent of them do not exceed.
func percentile(values []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// markdown returns the tables.
func markdown(r *results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s at commit %s: %s, %d cores, %s.\n", r.Date, r.Commit, r.Processor, r.Cores, r.Go)
	if r.Quick {
		b.WriteString("This was a short run beside other work: the numbers are rough.\n")
	}
	if v := r.Revocation; v != nil {
		fmt.Fprintf(&b, "\nFrom a manifest saved to the last of %d gateways that refuses, %d changes:\n\n", v.Gateways, v.Changes)
		b.WriteString("| | ms |\n| --- | ---: |\n")
		for _, p := range []float64{50, 90, 99, 100} {
			name := fmt.Sprintf("%g %% of changes within", p)
			fmt.Fprintf(&b, "| %s | %.0f |\n", name, percentile(v.Milliseconds, p))
		}
	}
	if len(r.Waiting) > 0 {
		b.WriteString("\nWhat the control plane needs for gateways that wait while nothing changes:\n\n")
		b.WriteString("| gateways | | of one core | memory for each |\n| ---: | --- | ---: | ---: |\n")
		for _, w := range r.Waiting {
			scheme := "HTTP"
			if w.TLS {
				scheme = "HTTPS"
			}
			fmt.Fprintf(&b, "| %s | %s | %.1f %% | %.0f KiB |\n", report.Thousands(w.Gateways), scheme, 100*w.CPU, float64(w.BytesPerGateway)/1024)
		}
	}
	if c := r.Change; c != nil {
		fmt.Fprintf(&b, "\nOne key suspended among %s, in the mean of %d, beside all that it takes to start with them. ", report.Thousands(c.Keys), c.Changes)
		fmt.Fprintf(&b, "It is refused after %.0f ms (median); the control plane has %.0f MB in memory.\n\n", percentile(c.Milliseconds, 50), float64(c.Resident)/1e6)
		b.WriteString("| | whole table | one key | |\n| --- | ---: | ---: | ---: |\n")
		for _, row := range []struct {
			name, unit string
			whole, one float64
		}{
			{"fetched", "kB", float64(c.Whole.Bytes) / 1000, float64(c.One.Bytes) / 1000},
			{"processor time of a gateway, compiled", "ms", c.Whole.Gateway, c.One.Gateway},
			{"processor time of the control plane", "ms", c.Whole.ControlPlane, c.One.ControlPlane},
		} {
			fmt.Fprintf(&b, "| %s | %s %s | %.1f %s | %.2f %% |\n", row.name,
				report.Thousands(int(row.whole+0.5)), row.unit, row.one, row.unit, 100*row.one/row.whole)
		}
	}
	return b.String()
}

// place is the name of the place that the tables have on the page.
const place = "sync"
