package yaegi

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/traefik/yaegi/stdlib"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// What a key may cost in a table in parts, each of an application of its own:
// bytes of heap for as long as the table is in force, and bytes that are
// allocated on the way there.
const (
	mostHeapPerKey    = 400
	mostGarbagePerKey = 4000
)

// TestHeapOfParts measures the memory of interpreted parts. It grows with the
// number of keys, so that of a million follows from that of a few.
func TestHeapOfParts(t *testing.T) {
	if !alone(t) {
		return
	}
	const parts, keys = 16, 16_000
	gopath := t.TempDir()
	if _, err := stack.CopyPlugin(gopath, false, nil); err != nil {
		t.Fatal(err)
	}
	i := newInterpreter(t, gopath, stdlib.Symbols)
	if _, err := i.Eval(`import "` + module + `/table"`); err != nil {
		t.Fatal(err)
	}
	parse := value(t, i, "table.ParsePart")

	_, texts, err := stack.SplitTable(largeTable(keys), parts)
	if err != nil {
		t.Fatal(err)
	}
	kept := make([]reflect.Value, 0, parts)
	before := settledHeap()
	start := time.Now()
	for sum, text := range texts {
		results := parse.Call([]reflect.Value{reflect.ValueOf(sum), reflect.ValueOf(text)})
		if !results[1].IsNil() {
			t.Fatal(results[1])
		}
		kept = append(kept, results[0])
	}
	took := time.Since(start)
	after := settledHeap()
	heap, garbage := (after.HeapAlloc-before.HeapAlloc)/keys, (after.TotalAlloc-before.TotalAlloc)/keys
	t.Logf("%d bytes of heap per key, %d allocated; %s for %d keys", heap, garbage, took/parts, keys/parts)
	if heap > mostHeapPerKey {
		t.Errorf("%d bytes of heap per key, at most %d", heap, mostHeapPerKey)
	}
	if garbage > mostGarbagePerKey {
		t.Errorf("%d bytes allocated per key, at most %d", garbage, mostGarbagePerKey)
	}
	runtime.KeepAlive(kept)
	runtime.KeepAlive(texts)
	runtime.KeepAlive(i) // Else what only loading needed is freed in between.
}

func settledHeap() runtime.MemStats {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // The first one may leave what has a finalizer.
	runtime.ReadMemStats(&stats)
	return stats
}

// largeTable returns a table with so many keys, each of an application of its
// own.
func largeTable(keys int) []byte {
	var applications, holders []string
	for n := range keys {
		name := fmt.Sprintf("bench/app-%07d", n)
		applications = append(applications, fmt.Sprintf(
			`"%s":{"appId":"app-%07d","owner":"67f67907ee260b44336a952e","grants":{"bench/api-0000":"bench/rate-sub"}}`, name, n))
		holders = append(holders, fmt.Sprintf(`"%s":[{"application":"%s","title":"key-1"}]`, stack.Digest(name), name))
	}
	return []byte(`{"revision":1,"issuedAt":"2026-11-21T17:00:00Z","plans":{},"apis":{},"subscriptions":{"bench/rate-sub":{"plan":"bench/rate"}},` +
		`"applications":{` + strings.Join(applications, ",") + `},"keys":{` + strings.Join(holders, ",") + `}}`)
}
