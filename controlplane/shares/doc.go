// Package shares divides the limits of plans among gateways, so that all of them
// together never admit more than a plan allows, and no request has to ask anybody. It
// decides, and does no input or output: who has a record settles a gateway's Entry,
// stores the record by compare-and-set, and then answers with the Share. Time is an
// argument: nanoseconds on the clock of the store. Same input, same result.
//
//	record, version := get(bucket)          // and again from here, if another was faster
//	share := record.Settle(plan, tenure, entry, now)
//	swap(bucket, version, record.Encode())
//
// Several entries may be settled by one record before it is stored.
//
// # How it works
//
// Each gateway has an account with each bucket that it uses: totals of what it was
// granted, and of what it has used. The difference is its balance, in units of a
// request each. Both sides only ever raise totals and send them whole, so a message
// that is lost, late, doubled or overtaken does no harm: the next one says it all, and
// nothing needs a sequence number or a stored answer.
//
// A quota (QuotaRecord) is lent in units. A rate limit (RateRecord) is lent in units
// where tokens come slowly, the next one in advance. Where they come fast, gateways have
// parts: token buckets of their own, whose rates and capacities are taken from those of
// the plan. Parts are numbered. One that grows is taken from what nobody has; one that is to shrink counts
// as it was until the gateway has said that it acts on the smaller one.
//
// A share ends: after Life for the gateway, counted from when it sent its report, and a
// margin later here. Then the gateway uses nothing of it any more, and here what it held
// counts as used.
//
// So that the first requests that come to a gateway need not be refused, each tenure
// (Registry) has a standing credit with each bucket: a balance may fall below 0 by that
// (Standing). What is owed is consumed as soon as it is told, and the credit is whole
// again when it was granted. The plan sets a fixed reserve aside for all credits.
//
// # Why a quota is never exceeded
//
// Let the reserve be B, and C what is counted as consumed in the window. Claim: when
// something was granted at a time s, C + Σ balances ≤ limit − B. For balances only grow
// by grants, which look at that; telling what was spent moves it from a balance to C;
// the end of a share does the same with the rest; and time only lowers C. What is
// consumed is counted no earlier than it was admitted, so it does not leave the window
// before its request does.
//
// Take any window (t − period, t], and let s be the last grant up to t. Each request
// admitted in the window was told by s, and is in C, or it was not, and then lowers a
// balance as it was at s, since nothing was granted after that. A balance can be lowered
// to no less than −credit. So there were at most C + Σ (balance + credit) ≤ limit − B +
// Σ credits. The sum is over the tenures that are alive some time in the window. All of
// them have different ranks, because a rank belongs to its tenure until a horizon that
// is no shorter than the period has passed after its end, and the credits of any set of
// different ranks come to at most B. Debts of tenures that have ended are in C.
//
// # Why a rate limit is never exceeded
//
// Let Φ be the sum of the tokens that nobody has, those in parts, those on their way to
// parts, and all balances as they really are. Each request lowers Φ by 1. Only time
// raises it, by the rates of parts and of what is left here, whose sum is at most
// rate − B ÷ horizon: a part's rate counts here from before the gateway may use it until
// after it no longer can. Moving tokens and units does not change Φ, and losing them
// lowers it. A token that is lent in advance leaves fewer than none behind, so that Φ is
// what it was; it is used when those have been made, and until then no part takes from
// the rate that makes them. From above Φ is bounded by burst − B: what nobody has by the capacity that
// is left (limit), parts by theirs, and tokens travel only into capacity that was made
// for them. From below it is bounded by the credits.
//
// So in a time t there are at most burst − B + (rate − B ÷ horizon) × t + Σ credits
// requests, the sum being over the tenures alive in that time, a tenure's debt being
// dropped when it ends. In each horizon those come to at most B, so in t to at most
// B + B × t ÷ horizon.
//
// # What is assumed
//
// A gateway's clock and the store's differ in speed by at most 1 %, and the store's is
// set forward by at most half a second in the life of a share; margin covers that. A
// gateway makes tokens by its own clock. The store does not lose what it has confirmed.
package shares
