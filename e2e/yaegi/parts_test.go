package yaegi

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"runtime"
	"slices"
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

	texts := partTexts(parts, keys)
	kept := make([]reflect.Value, 0, parts)
	before := settledHeap()
	start := time.Now()
	for _, text := range texts {
		sum := sha256.Sum256(text)
		results := parse.Call([]reflect.Value{reflect.ValueOf(hex.EncodeToString(sum[:])), reflect.ValueOf(text)})
		if !results[1].IsNil() {
			t.Fatal(results[1])
		}
		kept = append(kept, results[0])
	}
	took := time.Since(start)
	after := settledHeap()
	heap, garbage := (after.HeapAlloc-before.HeapAlloc)/keys, (after.TotalAlloc-before.TotalAlloc)/keys
	t.Logf("%d bytes of text per key, %d of heap, %d allocated; %s a part of %d keys",
		len(slices.Concat(texts...))/keys, heap, garbage, took/parts, keys/parts)
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

// partTexts returns parts as docs/sync.md describes them, written by other means
// than the plugin's.
func partTexts(parts, keys int) [][]byte {
	applications, holders := make([][]string, parts), make([][]string, parts)
	for n := range keys {
		name := fmt.Sprintf("bench/app-%07d", n)
		sum := sha256.Sum256([]byte(name))
		part := int(sum[0]) * parts / 256
		applications[part] = append(applications[part], fmt.Sprintf(
			`"%s":{"appId":"app-%07d","owner":"67f67907ee260b44336a952e","grants":{"bench/api-0000":"bench/rate-sub"}}`, name, n))
		digest := stack.Digest(name)
		first, _ := hex.DecodeString(digest[:2])
		part = int(first[0]) * parts / 256
		holders[part] = append(holders[part], fmt.Sprintf(`"%s":[{"application":"%s","title":"key-1"}]`, digest, name))
	}
	texts := make([][]byte, parts)
	for part := range texts {
		slices.Sort(applications[part])
		slices.Sort(holders[part])
		texts[part] = []byte("{\"applications\":{\n" + strings.Join(applications[part], ",\n") +
			"\n},\"keys\":{\n" + strings.Join(holders[part], ",\n") + "\n},\"subscriptions\":{\n}}\n")
	}
	return texts
}
