// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
)

// A trial is a test that faults have to get past.
type trial struct {
	name string
	run  func(*testing.T)
}

// quickTrials run frames through the programs of one gateway and one host,
// those that see most and take least first.
func quickTrials() []trial {
	return []trial{
		{"TestEveryReasonToDropIsShown", TestEveryReasonToDropIsShown},
		{"TestGatewayPassesOnOnlyAnswers", TestGatewayPassesOnOnlyAnswers},
		{"TestSegmentsFitTheTunnel", TestSegmentsFitTheTunnel},
		{"TestGatewayPassesOnOnlyItsTargetsErrors", TestGatewayPassesOnOnlyItsTargetsErrors},
		{"TestOlderPacketLeavesTheFlowWhereItIs", TestOlderPacketLeavesTheFlowWhereItIs},
		{"TestUnseenBranchesOfTheEarlyHook", TestUnseenBranchesOfTheEarlyHook},
		{"TestUnseenBranchesOfTheWayOut", TestUnseenBranchesOfTheWayOut},
		{"TestUnseenBranchesOfProbes", TestUnseenBranchesOfProbes},
		{"TestUnseenBranchesOfAnswers", TestUnseenBranchesOfAnswers},
		{"TestUnseenBranchesOfErrors", TestUnseenBranchesOfErrors},
		{"TestDialledPeerDialsBack", TestDialledPeerDialsBack},
		{"TestPingIsNotAnswerToPing", TestPingIsNotAnswerToPing},
		{"TestRefusedThenAllowed", TestRefusedThenAllowed},
		{"TestVouchedNoLonger", TestVouchedNoLonger},
		{"TestProxyMeetsDirectConnection", TestProxyMeetsDirectConnection},
		{"TestHalfClosedIsOpen", TestHalfClosedIsOpen},
		{"TestWhoSpeaksAloneOpensNothing", TestWhoSpeaksAloneOpensNothing},
		{"TestProbesTakeNobodysRoom", TestProbesTakeNobodysRoom},
		{"TestGatewayRefusesItsOwnAddresses", TestGatewayRefusesItsOwnAddresses},
		{"TestUnboundGroupCountsNothing", TestUnboundGroupCountsNothing},
		{"TestHostsReachNoSocketOfTheGateway", TestHostsReachNoSocketOfTheGateway},
		{"TestGatewayICMP", TestGatewayICMP},
		{"TestHostICMP", TestHostICMP},
		{"TestGatewaySaysWhatFits", TestGatewaySaysWhatFits},
		{"TestProtocolsWithoutPorts", TestProtocolsWithoutPorts},
		{"TestMachineLeadsNobodyAstray", TestMachineLeadsNobodyAstray},
		{"TestFragments", TestFragments},
		{"TestTags", TestTags},
		{"TestDiscoveryPassesGate2", TestDiscoveryPassesGate2},
		{"TestFlowsOfIPv6AreTold", TestFlowsOfIPv6AreTold},
		{"TestHeldFlowMovesToTheRevision", TestHeldFlowMovesToTheRevision},
		{"TestFlowUnderTheWriterIsNone", TestFlowUnderTheWriterIsNone},
		{"TestAnswersLeaveByTheirWay", TestAnswersLeaveByTheirWay},
		{"TestDirectFlowWithoutAPortIsACollision", TestDirectFlowWithoutAPortIsACollision},
		{"TestKeptFlowEndsWithItsConnection", TestKeptFlowEndsWithItsConnection},
		{"TestTunnelIsForTheTargetAlone", TestTunnelIsForTheTargetAlone},
		{"TestAnswerToAProbeNoLongerExempt", TestAnswerToAProbeNoLongerExempt},
		{"TestHalfOpenFlowsOfATuple", TestHalfOpenFlowsOfATuple},
		{"TestClosingFlowOfUnknownEndStaysClosing", TestClosingFlowOfUnknownEndStaysClosing},
		{"TestSamePortAtVIPAndService", TestSamePortAtVIPAndService},
		{"TestStampIsToldWhereItIsNotHere", TestStampIsToldWhereItIsNotHere},
		{"TestOnlyProbesPingThroughTheTunnel", TestOnlyProbesPingThroughTheTunnel},
		{"TestFlowKnowsItsLastPacket", TestFlowKnowsItsLastPacket},
		{"TestFreeSlotHidesNoFlow", TestFreeSlotHidesNoFlow},
		{"TestResetThatNobodyTakes", TestResetThatNobodyTakes},
		{"TestControlFromAnyOwnAddress", TestControlFromAnyOwnAddress},
		{"TestNobodyClaimsAnothersIPv6Address", TestNobodyClaimsAnothersIPv6Address},
		{"TestLinksOwnFramesPass", TestLinksOwnFramesPass},
		{"TestGatewayTellsOfPings", TestGatewayTellsOfPings},
		{"TestRefusedAnswersAreToldByTheClientsPort", TestRefusedAnswersAreToldByTheClientsPort},
		{"TestSameClientPort", TestSameClientPort},
		{"TestFrames", TestFrames},
		{"TestKernelTwinPrivate", TestKernelTwinPrivate},
		{"TestKernelTwinAtStampedRevision", TestKernelTwinAtStampedRevision},
		{"TestKernelTwinAtEveryEdge", TestKernelTwinAtEveryEdge},
	}
}

// furtherTrials open programs with other constants, or several hosts, or look
// at real traffic. They are run on what is left.
func furtherTrials() []trial {
	return []trial{
		{"TestARP", TestARP},
		{"TestGatewayAnswersSolicitations", TestGatewayAnswersSolicitations},
		{"TestNothingButTheMachinesOwnPasses", TestNothingButTheMachinesOwnPasses},
		{"TestControlAddressIsNoKey", TestControlAddressIsNoKey},
		{"TestBeforeTheFirstSnapshot", TestBeforeTheFirstSnapshot},
		{"TestUnseenBranchesOfTheVictim", TestUnseenBranchesOfTheVictim},
		{"TestFragmentsPass", TestFragmentsPass},
		{"TestFragmentsThatDoNotFit", TestFragmentsThatDoNotFit},
		{"TestTagsAreLeftToTheirInterface", TestTagsAreLeftToTheirInterface},
		{"TestUnderlayTellsASize", TestUnderlayTellsASize},
		{"TestFlowFoundElsewhere", TestFlowFoundElsewhere},
		{"TestFlowsOfTheFormerLayout", TestFlowsOfTheFormerLayout},
		{"TestNoChecksumStaysNone", TestNoChecksumStaysNone},
		{"TestChooseFindsTheLiveTarget", TestChooseFindsTheLiveTarget},
		{"TestLeastConnWeighs", TestLeastConnWeighs},
		{"TestNoHealthyTarget", TestNoHealthyTarget},
		{"TestByAddress", TestByAddress},
		{"TestSlowStartAndDrain", TestSlowStartAndDrain},
		{"TestPortRanges", TestPortRanges},
		{"TestFlowWeighsOnce", TestFlowWeighsOnce},
		{"TestFloodLeavesOthersTheirEntries", TestFloodLeavesOthersTheirEntries},
		{"TestFlowsAreTold", TestFlowsAreTold},
		{"TestVerdictWithoutListenerNamesBalancer", TestVerdictWithoutListenerNamesBalancer},
		{"TestKeptFlows", TestKeptFlows},
		{"TestDHCPClientIsASystemRule", TestDHCPClientIsASystemRule},
		{"TestObservedMachineLosesNothing", TestObservedMachineLosesNothing},
		{"TestFlowsOlderThanTheGate", TestFlowsOlderThanTheGate},
		{"TestBothHooksTunnelAlike", TestBothHooksTunnelAlike},
		{"TestMovedFlowsAtAGuestsPort", TestMovedFlowsAtAGuestsPort},
		{"TestGuestIsToldASize", TestGuestIsToldASize},
		{"TestNearbyPortsCrowdNobody", TestNearbyPortsCrowdNobody},
		{"TestKeysStandInTheirOwnRows", TestKeysStandInTheirOwnRows},
		{"TestTargetsInOthersRows", TestTargetsInOthersRows},
		{"TestCountersNeverRunOut", TestCountersNeverRunOut},
		{"TestSeenAheadOfTheClock", TestSeenAheadOfTheClock},
		{"TestProxysPacketsFit", TestProxysPacketsFit},
		{"TestTranslationKeepsSums", TestTranslationKeepsSums},
		{"TestEarlyHookKeepsToItsDevice", TestEarlyHookKeepsToItsDevice},
		{"TestScenarios", TestScenarios},
		{"TestScenariosOverIPv6", TestScenariosOverIPv6},
	}
}

// liveTrials wait for the kernel's own stacks.
func liveTrials() []trial {
	return []trial{
		{"TestOnlyTheProxyAnswersAtLayer7", TestOnlyTheProxyAnswersAtLayer7},
		{"TestGuests", TestGuests},
		{"TestFragmentsLive", TestFragmentsLive},
		{"TestTwoGatesLive", TestTwoGatesLive},
		{"TestEveryInterface", TestEveryInterface},
		{"TestReturnByGatewayLive", TestReturnByGatewayLive},
		{"TestBothFamiliesLive", TestBothFamiliesLive},
		{"TestDatagramsLive", TestDatagramsLive},
		{"TestTagsLive", TestTagsLive},
		{"TestGatewaysOwnConnections", TestGatewaysOwnConnections},
		{"TestDirectTraffic", TestDirectTraffic},
		{"TestStrangersStayOutside", TestStrangersStayOutside},
		{"TestEIPSharesNoVerdict", TestEIPSharesNoVerdict},
		{"TestEstablishedFlows", TestEstablishedFlows},
		{"TestFloods", TestFloods},
		{"TestNarrowUnderlayLive", TestNarrowUnderlayLive},
		{"TestOnlyItsFlowsMove", TestOnlyItsFlowsMove},
	}
}

// trialsOf gives the trials of a round, or those whose names it is, with commas.
func trialsOf(round string) []trial {
	if of := map[string]func() []trial{"quick": quickTrials, "further": furtherTrials, "live": liveTrials}[round]; of != nil {
		return of()
	}
	return slices.DeleteFunc(slices.Concat(quickTrials(), furtherTrials(), liveTrials()), func(one trial) bool { return !slices.Contains(strings.Split(round, ","), one.name) })
}

// A job is what one process of tests does: a unit's faults, by their places in
// it, that are to be tried by a round's trials, those that come by each. Skip are
// trials that broke down.
type job struct {
	Dir     string
	Round   string
	Visits  bool // nothing is tried: who comes by what is asked
	Alone   bool // the programs are with the one fault, and have no other form beside it
	Numbers []int
	Refused []int // those that the verifier may refuse: they spoil it for whatever stands beside them
	Trials  map[int][]string
	Past    map[string]record
	Skip    []string
}

// A record is how a trial did.
type record struct {
	Runs, Kills int
	Cost        float64 // seconds
}

// worth is what to expect of a trial for the time it takes.
func (r record) worth() float64 {
	return float64(r.Kills+1) / float64(r.Runs+3) / max(r.Cost, 0.05)
}

// jobVariable holds a job; its answers go to file 3.
const jobVariable = "SALLYPORT_MUTANTS"

// An answer says what became of a fault, or what is being tried.
type answer struct {
	Number  int
	Test    string // begun: which is tried now; killed: by which
	Killed  bool
	Done    bool   // nothing is left to try
	How     string // done, not killed: why it could not be tried
	Reached bool   // done, not killed: some trial came by
	Took    float64
	Came    []int // what the test came by, where that is asked
}

// A worker tries faults one after the other, in programs that it loads once for
// a few of them.
type worker struct {
	t      *testing.T
	job    job
	roles  []lb.NodeRole // whose programs are the unit's
	trials []trial
	past   map[string]record
	out    *json.Encoder
	sound  bool // the programs are taken with no fault in them
}

// together is how many faults programs are loaded with: each has the verifier
// walk more.
const together = 12

// What a process of a campaign does; see TestMutants.
func TestMutantsOfOneUnit(t *testing.T) {
	text := os.Getenv(jobVariable)
	if text == "" {
		t.Skip("a part of TestMutants")
	}
	w := &worker{t: t, past: map[string]record{}, out: json.NewEncoder(os.NewFile(3, "answers"))}
	if err := json.Unmarshal([]byte(text), &w.job); err != nil {
		t.Fatal(err)
	}
	maps.Copy(w.past, w.job.Past)
	for _, one := range trialsOf(w.job.Round) {
		if !slices.Contains(w.job.Skip, one.name) {
			w.trials = append(w.trials, one)
		}
	}
	loaded.on, loaded.specs = true, map[lb.NodeRole]*ebpf.CollectionSpec{}
	if w.job.Alone {
		loaded.planted = map[lb.NodeRole]*ebpf.CollectionSpec{}
	}
	for _, role := range bothRoles {
		w.read(role)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", filepath.Base(path(quietName()))).Run() })
	if w.job.Visits {
		w.visit()
		return
	}
	for _, all := range [][]int{w.job.Numbers, w.job.Refused} {
		size := together
		if len(w.job.Refused) > 0 && &all[0] == &w.job.Refused[0] {
			size = 2
		}
		for group := range slices.Chunk(all, size) {
			w.try(group)
		}
	}
}

// read reads the programs of a role.
func (w *worker) read(role lb.NodeRole) {
	spec, err := specOf(w.job.Dir, role, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	loaded.specs[role] = spec
	if w.job.Alone {
		if unix.Access(filepath.Join(w.job.Dir, string(role)+".o"), unix.R_OK) == nil {
			loaded.planted[role], w.roles = spec, append(w.roles, role)
		}
		loaded.specs[role], err = specOf("", role, 0)
		if err != nil {
			w.t.Fatal(err)
		}
	} else if spec.Variables["mutant_mask"] != nil {
		w.roles = append(w.roles, role)
	}
}

// visit tells what each trial comes by, and what it takes.
func (w *worker) visit() {
	if !w.load(nil, 1) {
		w.tell(answer{Done: true, How: fmt.Sprint(loaded.refused)})
		w.t.FailNow()
	}
	for _, one := range w.trials {
		loaded.came()
		w.tell(answer{Test: one.name})
		began := time.Now()
		ok := w.run(one, 0)
		if !ok {
			fmt.Printf("NOTE %s fails without a fault\n", one.name)
		}
		w.tell(answer{Test: one.name, Came: append(loaded.came(), 0), Killed: !ok, Took: time.Since(began).Seconds()})
	}
}

// try tries a group of faults; those that cannot be loaded together by halves.
func (w *worker) try(group []int) {
	if !w.load(group, group[0]) {
		if len(group) > 1 {
			w.try(group[:len(group)/2])
			w.try(group[len(group)/2:])
			return
		}
		why := loaded.refused
		if !w.plain(group[0]) {
			w.tell(answer{Done: true, How: fmt.Sprint(loaded.refused)})
			w.t.FailNow()
		}
		w.alone(group[0], why)
		return
	}
	var again []int // those that some trial's programs cannot hold beside the others
	for _, n := range group {
		left := slices.DeleteFunc(slices.Clone(w.trials), func(one trial) bool { return !slices.Contains(w.job.Trials[n], one.name) })
		came, killed := len(left) > 0, false
		for len(left) > 0 && !killed {
			slices.SortStableFunc(left, func(x, y trial) int { return cmp.Compare(w.past[y.name].worth(), w.past[x.name].worth()) })
			one := left[0]
			left = left[1:]
			loaded.refused = nil
			if killed = w.kills(one, n); killed || loaded.refused == nil {
				continue
			}
			if len(group) > 1 {
				again, killed = append(again, n), true
			} else if killed = w.refuses(one, n); killed {
				w.tell(answer{Number: n, Test: "the verifier in " + one.name, Killed: true, Done: true})
			}
		}
		if !killed {
			w.tell(answer{Number: n, Done: true, Reached: came})
		}
	}
	for _, n := range again {
		w.try([]int{n})
	}
}

// load loads the unit's programs with a group's faults, none of them on, for the
// sake of fault n.
func (w *worker) load(group []int, n int) bool {
	var mask uint64
	for _, i := range group {
		mask |= 1 << (i - 1)
	}
	loaded.drop()
	loaded.choose(0)
	number := uint32(0)
	if w.job.Alone && len(group) > 0 {
		number = 1
	}
	for _, role := range w.roles {
		if err := setMask(loaded.specs[role], mask); err != nil {
			w.t.Fatal(err)
		}
	}
	loaded.refused = nil
	w.tell(answer{Number: n, Test: "loading"})
	return w.run(trial{"opens", func(t *testing.T) {
		q := newQuiet(t)
		for _, role := range w.roles {
			q.benchOf(role, nil)
		}
	}}, number)
}

// alone says of a fault that the kernel refuses to load what that shows.
func (w *worker) alone(n int, why error) {
	if refusal(why) {
		w.tell(answer{Number: n, Test: "the verifier", Killed: true, Done: true})
		return
	}
	w.tell(answer{Number: n, Done: true, How: fmt.Sprintf("could not be loaded: %v", why)})
}

// plain reports whether the unit's programs are loaded with no fault in them.
func (w *worker) plain(n int) bool {
	if !w.sound {
		loaded.verbose = true
		w.sound = w.load(nil, n)
		loaded.verbose = false
		if !w.sound && loaded.refused == nil {
			loaded.refused = errors.New("they cannot be opened, see the log")
		}
	}
	return w.sound
}

// refuses reports whether the programs that a trial opens are refused for a fault
// that stands alone in them, and for nothing else.
func (w *worker) refuses(one trial, n int) bool {
	if !refusal(loaded.refused) {
		return false
	}
	ok := w.load(nil, n) && w.run(one, 0)
	return w.load([]int{n}, n) && ok
}

// refusal reports whether an error is the verifier's, not the machine's.
func refusal(err error) bool {
	for _, e := range []error{syscall.EACCES, syscall.EINVAL, syscall.EPERM, syscall.E2BIG, syscall.EFAULT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// kills runs a trial on one fault. What fails with it has to pass without it at
// once, in the same programs: else it says nothing about the fault.
func (w *worker) kills(one trial, n int) bool {
	began := time.Now()
	w.tell(answer{Number: n, Test: one.name})
	r := w.past[one.name]
	r.Runs++
	w.past[one.name] = r
	if w.run(one, uint32(n)) {
		return false
	}
	if !w.run(one, 0) {
		fmt.Printf("NOTE %s fails with fault %d and without\n", one.name, n)
		return false
	}
	w.tell(answer{Number: n, Test: one.name, Killed: true, Done: true, Took: time.Since(began).Seconds()})
	r.Kills++
	w.past[one.name] = r
	return true
}

// run runs a trial with a fault switched on and reports whether it passed.
func (w *worker) run(one trial, number uint32) bool {
	loaded.choose(number)
	ok := w.t.Run(one.name, func(t *testing.T) { t.Run("it", one.run) }) // one that would run beside others is waited for
	loaded.choose(0)
	return ok
}

func (w *worker) tell(a answer) {
	if err := w.out.Encode(a); err != nil && !errors.Is(err, io.EOF) {
		w.t.Fatal(err)
	}
}
