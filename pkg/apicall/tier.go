package apicall

import "time"

// LimitOf returns the limit of a tier, for each API; that of TierStandard for
// a tier that is not known.
func LimitOf(t Tier) Limit {
	limit, _ := tierLimit(t)
	return limit
}

// tierLimit is LimitOf, and says whether the tier is known.
func tierLimit(t Tier) (Limit, bool) {
	switch t {
	case TierExpressLite, TierExpress:
		return Limit{Concurrency: 1, Calls: 50, Window: 24 * time.Hour}, true
	case TierStandard:
		return Limit{Concurrency: 2, Calls: 300, Window: time.Hour}, true
	case TierEnterprise:
		return Limit{Concurrency: 5, Calls: 750, Window: time.Hour}, true
	case TierPremium:
		return Limit{Concurrency: 10, Calls: 2000, Window: time.Hour}, true
	}
	return LimitOf(TierStandard), false
}
