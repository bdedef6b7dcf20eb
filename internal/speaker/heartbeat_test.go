package speaker

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lb"
)

func (w *world) edit(f func()) {
	w.mu.Lock()
	f()
	w.mu.Unlock()
	w.tellMembers()
}

func TestASilentNodeIsReplacedBeforeGossipNotices(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		owner := w.answering(vip)
		w.edit(func() { w.nodes[lb.NodeName(owner)].silent = true })
		time.Sleep(2 * stepRest)
		if got := w.answering(vip); got == owner || got == "" {
			t.Errorf("%s answers although the others no longer hear %s", got, owner)
		}
		w.edit(func() { w.nodes[lb.NodeName(owner)].silent = false })
		time.Sleep(2 * raiseEvery)
		heir := w.answering(vip)
		if heir == owner || len(heir) != len(owner) {
			t.Errorf("%s answers after the false alarm, want the new owner alone", heir)
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if target := w.nodes[lb.NodeName(heir)].answers[vip]; target.Again == 0 {
			t.Errorf("%+v: not announced again when %s was back", target, owner)
		}
	})
}

func TestHeartbeatsGoToMembersAndToLostOnes(t *testing.T) {
	inWorld(t, 12, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		w.mu.Lock()
		before := len(n.watched)
		spare := lb.NodeName("") // a member with whom n1 exchanges none
		for name := range w.nodes {
			if _, ok := n.watched[name]; !ok && name != "n1" {
				spare = name
			}
		}
		w.mu.Unlock()
		if before < 3 || before > 9 || spare == "" {
			t.Errorf("n1 watches %v", slices.Sorted(maps.Keys(n.watched)))
			return
		}
		w.nodes[spare].die()
		pass(time.Second)
		if _, ok := n.watched[spare]; !ok {
			t.Errorf("n1 does not listen for %s, which was lost", spare)
		}
	})
}

func TestAProcessThatWasAsleepKeepsSilentUntilItKnows(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		owner := w.nodes[lb.NodeName(w.answering(vip))]
		w.took()
		w.edit(func() { owner.asleep = true })
		pass(time.Second)
		if owner.MayAnswer() {
			t.Error("it may answer")
		}
		w.edit(func() { owner.asleep = false })
		time.Sleep(2 * fencePoll)
		if owner.MayAnswer() {
			t.Error("it may answer although it has heard nothing from the others")
		}
		if owner.rejoins == 0 {
			t.Error("it did not ask the others")
		}
		w.edit(func() { owner.heard = time.Now().Add(time.Millisecond) })
		pass(2 * fencePoll)
		if !owner.MayAnswer() {
			t.Error("it may not answer although it knows everything")
		}
		if d := cmp.Diff([]string(nil), w.took()); d != "" {
			t.Errorf("the sleep changed something:\n%s", d)
		}
	})
}

// The others may answer a process that wakes up faster than anybody in it asks whether it slept.
func TestASleepThatNobodySawCounts(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		owner := w.nodes[lb.NodeName(w.answering(vip))]
		w.edit(func() { owner.sleeps++ })
		if owner.MayAnswer() {
			t.Error("it may answer after a sleep")
		}
		w.edit(func() { owner.heard = time.Now().Add(time.Millisecond) })
		time.Sleep(2 * time.Millisecond)
		w.edit(func() { owner.sleeps++ })
		time.Sleep(2 * fencePoll)
		if owner.MayAnswer() {
			t.Error("it may answer after a second sleep, with news from before it")
		}
		w.edit(func() { owner.heard = time.Now().Add(time.Millisecond) })
		time.Sleep(2 * fencePoll)
		if !owner.MayAnswer() {
			t.Error("it may not answer although it knows everything")
		}
	})
}

func TestAProcessThatNobodyAnswersServesOn(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		w.edit(func() { w.nodes["n1"].asleep = true })
		time.Sleep(fenceAnyway - time.Millisecond)
		if w.nodes["n1"].MayAnswer() {
			t.Error("it may answer too early")
		}
		time.Sleep(2 * fencePoll)
		if !w.nodes["n1"].MayAnswer() {
			t.Errorf("it may not answer after %s", fenceAnyway)
		}
	})
}
