package kube

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/lb"
)

// The conditions of a pool that say how its addresses stand. True is never good news.
const (
	ConditionExhausted   = "Exhausted"
	ConditionNearlyFull  = "NearlyFull"
	ConditionOverlapping = "Overlapping"
)

// The reasons of these conditions where nothing is amiss.
const (
	ReasonAddressesLeft = "AddressesLeft"
	ReasonNoOverlap     = "NoOverlap"
)

// soon is how many days a pool must last not to be nearly full.
const soon = 7

// stockConditions returns Exhausted and NearlyFull.
func stockConditions(n PoolCounts, generation int64) []metav1.Condition {
	var exhausted, nearly []string
	for _, f := range []struct {
		family lb.Family
		AddressCounts
	}{{lb.IPv4, n.IPv4}, {lb.IPv6, n.IPv6}} {
		if f.Total == 0 {
			continue
		}
		text := fmt.Sprintf("%d of %d %s addresses are in use", f.Assigned, f.Total, f.family)
		if f.Available == 0 {
			exhausted = append(exhausted, text)
		}
		if f.Available <= f.Total/10 {
			nearly = append(nearly, text)
		}
		if days, ok := n.DaysLeft[f.family]; ok && days < soon {
			nearly = append(nearly, fmt.Sprintf("at the rate of the last days no %s address is left in %d days", f.family, days))
		}
	}
	const advice = "; add addresses or delete Services"
	return []metav1.Condition{
		stockCondition(ConditionExhausted, string(lb.PoolExhausted), ReasonAddressesLeft, exhausted, advice, generation),
		stockCondition(ConditionNearlyFull, string(lb.PoolNearlyFull), ReasonAddressesLeft, nearly, advice, generation),
	}
}

// overlapCondition returns Overlapping for a pool that holds addresses with the others.
func overlapCondition(others []string, generation int64) metav1.Condition {
	var news []string
	if len(others) > 0 {
		news = []string{"holds addresses that " + strings.Join(others, ", ") + " holds too; keep each in one pool"}
	}
	return stockCondition(ConditionOverlapping, string(lb.PoolOverlap), ReasonNoOverlap, news, "", generation)
}

// stockCondition is True for bad news and False for none.
func stockCondition(kind, bad, good string, news []string, advice string, generation int64) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: good, ObservedGeneration: generation}
	if len(news) > 0 {
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, bad, strings.Join(news, ", ")+advice
	}
	return c
}
