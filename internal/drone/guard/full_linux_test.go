package guard

import (
	"strconv"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// On a full disk a backend is refused; those that run are renewed and taken out as
// before, which makes room.
func TestI1FullDiskRefusesTheBackendOnly(t *testing.T) {
	t.Parallel()
	dir := testkit.SmallDisk(t, 64<<10, 10)
	ledger, err := Open(dir, "dr-full")
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	want := map[string]Lease{}
	var leases []Lease
	for {
		lease := Lease{BackendID: "b" + strconv.Itoa(len(leases)), HardAtMS: 1}
		if err = ledger.Put(lease); err != nil {
			break
		}
		want[lease.BackendID] = lease
		leases = append(leases, lease)
	}
	if !strings.Contains(err.Error(), "no space left on device") || len(leases) < growth {
		t.Fatalf("after %d: %v", len(leases), err)
	}
	for n := range leases {
		leases[n].HardAtMS = 2
		want[leases[n].BackendID] = leases[n]
	}
	if err := ledger.Renew(leases); err != nil {
		t.Fatal(err)
	}
	if err := ledger.Remove("b0"); err != nil {
		t.Fatal(err)
	}
	delete(want, "b0")
	want["next"] = Lease{BackendID: "next", HardAtMS: 3}
	if err := ledger.Put(want["next"]); err != nil {
		t.Fatal(err)
	}
	got := written(t, dir)
	for id, lease := range want {
		if got[id] != lease {
			t.Fatalf("%s: got %+v, want %+v", id, got[id], lease)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d are written, want %d", len(got), len(want))
	}
}
