package shares

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Records are kept as one JSON array of integers each, which begins with the kind of
// record and the version of its format. That is a tenth of the size, and of the time to
// read, of objects with names.
const (
	quotaKind    = 1
	rateKind     = 2
	registryKind = 3

	formatVersion = 1
)

// MaxBytes is how large a record can be: a bucket of MaxAccounts gateways, or a
// registry of MaxTenures, with the longest numbers that there are.
const MaxBytes = 512 << 10

// What a record takes in memory, about, and each of its accounts and slots.
const (
	recordBytes  = 512
	accountBytes = 144
	slotBytes    = 16
)

// Size returns about how many bytes of memory the record takes.
func (r *QuotaRecord) Size() int {
	return recordBytes + accountBytes*cap(r.accounts) + slotBytes*cap(r.slots)
}

// Size returns about how many bytes of memory the record takes.
func (r *RateRecord) Size() int {
	return recordBytes + accountBytes*cap(r.accounts)
}

// Encode returns the record as JSON.
func (r *QuotaRecord) Encode() []byte {
	w := newWriter(quotaKind, 4+2*len(r.slots)+9*len(r.accounts))
	w.put(r.at, int64(len(r.slots)))
	for _, s := range r.slots {
		w.put(s.end, s.count)
	}
	w.accounts(r.accounts, func(a *account) { w.put(a.credit) })
	return w.end()
}

// DecodeQuota returns the record that Encode has written, a new one of no data.
func DecodeQuota(data []byte) (*QuotaRecord, error) {
	r := &QuotaRecord{}
	if len(data) == 0 {
		return r, nil
	}
	in := newReader(data, quotaKind)
	r.at = in.next(0, maxTime)
	r.slots = make([]slot, in.count(maxSlots, 2))
	last := int64(0)
	for i := range r.slots {
		s := &r.slots[i]
		s.end = in.next(last, maxTime)
		s.count = in.next(1, maxTotal-r.consumed)
		last = s.end
		r.consumed += s.count
	}
	r.accounts = in.accounts(func(a *account) { a.credit = in.next(0, maxReserve) })
	return r, in.end("quota")
}

// Encode returns the record as JSON.
func (r *RateRecord) Encode() []byte {
	w := newWriter(rateKind, 6+14*len(r.accounts))
	w.put(r.at, r.tokens, r.rate, r.capacity)
	w.accounts(r.accounts, func(a *account) {
		p := &a.part
		w.put(p.number, p.interval, p.capacity, p.fill, p.heldRate, p.heldCapacity)
	})
	return w.end()
}

// DecodeRate returns the record that Encode has written, a new one of no data.
func DecodeRate(data []byte) (*RateRecord, error) {
	r := &RateRecord{}
	if len(data) == 0 {
		return r, nil
	}
	in := newReader(data, rateKind)
	r.at = in.next(0, maxTime)
	r.tokens = in.next(mostMissing, maxRate)
	r.rate = in.next(0, maxRate)
	r.capacity = in.next(0, maxRate)
	r.accounts = in.accounts(func(a *account) {
		a.part = part{
			number:       in.next(0, maxTotal),
			interval:     in.next(0, 2*second),
			capacity:     in.next(0, maxTokens),
			fill:         in.next(0, maxTokens),
			heldRate:     in.next(0, maxRate),
			heldCapacity: in.next(0, maxTokens),
		}
	})
	return r, in.end("rate limit")
}

// Encode returns the registry as JSON.
func (r *Registry) Encode() []byte {
	w := newWriter(registryKind, 6+11*len(r.alive)+3*len(r.past))
	w.put(r.at, r.last, int64(len(r.alive)))
	for i := range r.alive {
		t := &r.alive[i]
		for _, word := range t.instance {
			w.put(int64(word))
		}
		w.put(t.number)
		w.put(t.ranks[:]...)
		w.put(t.until)
	}
	w.put(int64(len(r.past)))
	for _, p := range r.past {
		w.put(p.horizon, p.rank, p.until)
	}
	return w.end()
}

// DecodeRegistry returns the registry that Encode has written, a new one of no data.
func DecodeRegistry(data []byte) (*Registry, error) {
	r := &Registry{}
	if len(data) == 0 {
		return r, nil
	}
	in := newReader(data, registryKind)
	r.at = in.next(0, maxTime)
	r.last = in.next(0, maxTotal)
	r.alive = make([]tenure, in.count(MaxTenures, 6+len(Horizons)))
	for i := range r.alive {
		t := &r.alive[i]
		for word := range t.instance {
			t.instance[word] = uint32(in.next(0, math.MaxUint32))
		}
		t.number = in.next(1, r.last)
		for horizon := range t.ranks {
			t.ranks[horizon] = in.next(0, MaxRank)
		}
		t.until = in.next(0, maxTime)
	}
	r.past = make([]pastRank, in.count(MaxRank*len(Horizons), 3))
	for i := range r.past {
		r.past[i] = pastRank{in.next(0, int64(len(Horizons))-1), in.next(1, MaxRank), in.next(0, math.MaxInt64)}
	}
	return r, in.end("registry")
}

// maxTime is the latest time of a record: so far from the largest number that no sum
// with a period overflows. It is in the year 2116.
const maxTime = 1 << 62

type writer struct {
	data []byte
}

// newWriter returns a writer with room for about so many numbers.
func newWriter(kind int64, numbers int) *writer {
	w := &writer{data: make([]byte, 0, 16+12*numbers)}
	w.data = append(w.data, '[')
	w.put(kind, formatVersion)
	return w
}

func (w *writer) put(numbers ...int64) {
	for _, n := range numbers {
		w.data = strconv.AppendInt(w.data, n, 10)
		w.data = append(w.data, ',')
	}
}

func (w *writer) accounts(as accounts, more func(*account)) {
	w.put(int64(len(as)))
	for i := range as {
		a := &as[i]
		w.put(a.tenure, a.number, a.granted, a.used, a.returned, a.until, a.want, a.spare)
		more(a)
	}
}

func (w *writer) end() []byte {
	w.data[len(w.data)-1] = ']'
	return w.data
}

var errFormat = errors.New("not an array of integers as it was written")

// reader reads what writer has written. After an error it reads lowest values.
type reader struct {
	data []byte
	at   int // of the character in front of the next number
	err  error
}

func newReader(data []byte, kind int64) *reader {
	r := &reader{data: data}
	if len(data) > MaxBytes {
		r.err = fmt.Errorf("%d bytes, must be at most %d", len(data), MaxBytes)
	} else if data[0] != '[' || data[len(data)-1] != ']' {
		r.err = errFormat
	}
	r.next(kind, kind)
	r.next(formatVersion, formatVersion)
	return r
}

// next returns the next number, which must be from low to high.
func (r *reader) next(low, high int64) int64 {
	if r.err != nil {
		return low
	}
	start := r.at + 1
	end := start
	for end < len(r.data) && r.data[end] != ',' && r.data[end] != ']' {
		end++
	}
	n, ok := parse(r.data[start:end])
	switch {
	case end == len(r.data) || !ok:
		r.err = fmt.Errorf("byte %d: %w", start, errFormat)
	case n < low || n > high:
		r.err = fmt.Errorf("byte %d: %d, must be from %d to %d", start, n, low, high)
	default:
		r.at = end
		return n
	}
	return low
}

// parse returns the number that text is, as JSON has it.
func parse(text []byte) (n int64, ok bool) {
	digits := text
	negative := len(text) > 1 && text[0] == '-'
	if negative {
		digits = text[1:]
	}
	if len(digits) == 0 || len(digits) > 19 || digits[0] == '0' && len(text) > 1 {
		return 0, false
	}
	var sum uint64
	for _, digit := range digits {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		sum = 10*sum + uint64(digit-'0')
	}
	if sum > math.MaxInt64 {
		return 0, false
	}
	if negative {
		return -int64(sum), true
	}
	return int64(sum), true
}

// count returns the next number, of things with so many numbers each: no more than
// there can be in what is left.
func (r *reader) count(most, numbers int) int {
	n := int(r.next(0, int64(most)))
	if r.err == nil && n*numbers > len(r.data)-r.at {
		r.err = errFormat
	}
	if r.err != nil {
		return 0
	}
	return n
}

func (r *reader) accounts(more func(*account)) accounts {
	as := make(accounts, r.count(MaxAccounts, 8))
	last := int64(0)
	for i := range as {
		a := &as[i]
		a.tenure = r.next(last+1, maxTotal)
		a.number = r.next(0, maxTotal)
		a.granted = r.next(0, maxTotal)
		a.used = r.next(0, maxTotal)
		a.returned = r.next(0, maxTotal)
		a.until = r.next(0, maxTime)
		a.want = r.next(0, maxRate)
		a.spare = r.next(0, 1)
		last = a.tenure
		more(a)
	}
	return as
}

// end says what was wrong with a record.
func (r *reader) end(name string) error {
	if r.err == nil && r.at != len(r.data)-1 {
		r.err = fmt.Errorf("byte %d: %w", r.at, errFormat)
	}
	if r.err != nil {
		return fmt.Errorf("decoding %s record: %w", name, r.err)
	}
	return nil
}
