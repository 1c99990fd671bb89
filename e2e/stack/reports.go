package stack

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// TakeReport answers a gateway's report as a control plane does, and has the next
// one come after a time.
func TakeReport(w http.ResponseWriter, r *http.Request, next time.Duration) {
	var report struct {
		Sequence int64 `json:"sequence"`
	}
	if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintf(w, `{"sequence": %d, "next": %g}`, report.Sequence, next.Seconds())
}
