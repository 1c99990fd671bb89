package sharing

import (
	"container/list"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/shares"
	"github.com/tollgate-apim/tollgate/controlplane/store"
)

const (
	// maxKept is about how many bytes of memory the records take at most that are kept:
	// those of 400,000 accounts, of a gateway with a bucket each.
	maxKept = 64 << 20
	// keptEach is what a record takes besides itself and its key.
	keptEach = 256
)

// record is that of a bucket: one of both.
type record struct {
	rate  *shares.RateRecord
	quota *shares.QuotaRecord
}

// decode returns the record that the store has.
func decode(rate bool, data []byte) (r record, err error) {
	if rate {
		r.rate, err = shares.DecodeRate(data)
	} else {
		r.quota, err = shares.DecodeQuota(data)
	}
	return r, err
}

func (r record) encode() []byte {
	if r.rate != nil {
		return r.rate.Encode()
	}
	return r.quota.Encode()
}

func (r record) size() int {
	if r.rate != nil {
		return r.rate.Size()
	}
	return r.quota.Size()
}

// kept are records as the store has them, or had when they were last read or written
// here, so that those need not be read again that nobody else has changed. They belong
// to who leads.
type kept struct {
	most, size int
	by         map[string]*list.Element // of keys; the values are *keptRecord
	order      *list.List               // the one put last is first
}

type keptRecord struct {
	key     string
	version int64
	record  record
	size    int
	since   time.Time
}

func newKept() kept {
	return kept{most: maxKept, by: map[string]*list.Element{}, order: list.New()}
}

// known returns what is known of a key.
func (k *kept) known(key string) store.Known {
	known := store.Known{Key: key}
	if element := k.by[key]; element != nil {
		known.Version = keptOf(element).version
	}
	return known
}

// take takes a record out that is kept of a version. It is false if none is: then none
// is kept of the key any more.
func (k *kept) take(key string, version int64) (r record, ok bool) {
	element := k.by[key]
	if element == nil {
		return record{}, false
	}
	k.drop(element)
	found := keptOf(element)
	return found.record, version != 0 && found.version == version
}

// put keeps a record that the store has, and lets go of those put longest ago for which
// there is no room, or that nobody has asked for.
func (k *kept) put(key string, version int64, r record, now time.Time) {
	if element := k.by[key]; element != nil {
		k.drop(element)
	}
	next := &keptRecord{key: key, version: version, record: r, size: keptEach + len(key) + r.size(), since: now}
	k.by[key] = k.order.PushFront(next)
	k.size += next.size
	for last := k.order.Back(); last != nil && (k.size > k.most || now.Sub(keptOf(last).since) >= forgetAfter); last = k.order.Back() {
		k.drop(last)
	}
}

func (k *kept) drop(element *list.Element) {
	old := keptOf(element)
	delete(k.by, old.key)
	k.order.Remove(element)
	k.size -= old.size
}

func keptOf(element *list.Element) *keptRecord {
	r, ok := element.Value.(*keptRecord)
	if !ok {
		panic("a kept record is none")
	}
	return r
}
