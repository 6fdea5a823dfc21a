package guard

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// written is what a guard would read of a ledger.
func written(t interface{ Fatal(args ...any) }, dir string) map[string]Lease {
	raw, err := os.ReadFile(filepath.Join(dir, ledgerName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeHeader(raw); err != nil || len(raw)%slotSize != 0 {
		t.Fatal("header", err, len(raw))
	}
	leases := map[string]Lease{}
	for at := slotSize; at < len(raw); at += slotSize {
		lease, used, err := decode(raw[at : at+slotSize])
		if err != nil {
			t.Fatal(err)
		}
		if !used {
			continue
		}
		if _, twice := leases[lease.BackendID]; twice {
			t.Fatal("twice: ", lease.BackendID)
		}
		leases[lease.BackendID] = lease
	}
	return leases
}

// I1: whatever the agent does, and whenever it is replaced by another run, the file has
// exactly the leases that it put and did not remove, with the deadlines of the last word.
func TestI1LedgerHoldsWhatWasPut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "ledger")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		ledger, err := Open(dir, droneOf(dir))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { ledger.Close() }()
		want := map[string]Lease{}
		id := rapid.SampledFrom([]string{"a", "b", "c", strings.Repeat("x", 45)})
		deadline := rapid.Int64Range(1, 1<<40)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				lease := Lease{BackendID: id.Draw(t, "id"), SoftAtMS: deadline.Draw(t, "soft"), HardAtMS: deadline.Draw(t, "hard")}
				if err := ledger.Put(lease); err != nil {
					t.Fatal(err)
				}
				want[lease.BackendID] = lease
			},
			"renew": func(t *rapid.T) {
				var leases []Lease
				for _, id := range rapid.SliceOfDistinct(id, rapid.ID).Draw(t, "ids") {
					lease := Lease{BackendID: id, SoftAtMS: deadline.Draw(t, "soft"), HardAtMS: deadline.Draw(t, "hard")}
					if leases = append(leases, lease); want[id].BackendID != "" {
						want[id] = lease
					}
				}
				if err := ledger.Renew(leases); err != nil {
					t.Fatal(err)
				}
			},
			"remove": func(t *rapid.T) {
				id := id.Draw(t, "id")
				if err := ledger.Remove(id); err != nil {
					t.Fatal(err)
				}
				delete(want, id)
			},
			"another agent": func(t *rapid.T) {
				if err := ledger.Close(); err != nil {
					t.Fatal(err)
				}
				if ledger, err = Open(dir, droneOf(dir)); err != nil {
					t.Fatal(err)
				}
				found := slices.SortedFunc(slices.Values(ledger.Found()), func(a, b Lease) int { return cmp.Compare(a.BackendID, b.BackendID) })
				if !slices.Equal(found, slices.SortedFunc(maps.Values(want), func(a, b Lease) int { return cmp.Compare(a.BackendID, b.BackendID) })) {
					t.Fatalf("found %v, want %v", found, want)
				}
			},
			"": func(t *rapid.T) {
				if got := written(t, dir); !maps.Equal(got, want) {
					t.Fatalf("got %v, want %v", got, want)
				}
			},
		})
	})
}

func TestLedgerGrowsAndReusesSlots(t *testing.T) {
	t.Parallel()
	ledger, dir := newLedger(t)
	var leases []Lease
	for n := range 12 * growth {
		leases = append(leases, Lease{BackendID: "b" + strings.Repeat("x", n%40) + string(rune('a'+n%26)) + strings.Repeat("y", n/1000) + itoa(n), HardAtMS: 1})
	}
	for round := range 2 {
		for _, lease := range leases {
			if err := ledger.Put(lease); err != nil {
				t.Fatal(err)
			}
		}
		for n := range leases {
			leases[n].HardAtMS = int64(round + 2)
		}
		if err := ledger.Renew(leases); err != nil {
			t.Fatal(err)
		}
		got := written(t, dir)
		for _, lease := range leases {
			if got[lease.BackendID] != lease {
				t.Fatalf("got %v, want %v", got[lease.BackendID], lease)
			}
		}
		for _, lease := range leases {
			if err := ledger.Remove(lease.BackendID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := written(t, dir); len(got) != 0 {
		t.Fatalf("%d are left", len(got))
	}
	info, err := os.Stat(filepath.Join(dir, ledgerName))
	if err != nil || info.Size() > 13*growth*slotSize {
		t.Fatalf("%d bytes (%v): removed slots are not used again", info.Size(), err)
	}
}

func itoa(n int) string {
	return string([]byte{byte('0' + n/1000), byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
}

func TestLedgerIsOneAgents(t *testing.T) {
	t.Parallel()
	ledger, dir := newLedger(t)
	if _, err := Open(dir, droneOf(dir)); !errors.Is(err, ErrHeld) {
		t.Fatalf("a second agent got %v", err)
	}
	if err := ledger.Put(Lease{BackendID: "b", HardAtMS: 1}); err != nil {
		t.Fatal(err)
	}
	ledger.Close()
	if _, err := Open(dir, "dr-other"); err == nil || !strings.Contains(err.Error(), "'s, which has 1 backends here") {
		t.Fatalf("another drone got %v", err)
	}
	again, err := Open(dir, droneOf(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Remove("b"); err != nil {
		t.Fatal(err)
	}
	again.Close()
	other, err := Open(dir, "dr-other")
	if err != nil {
		t.Fatalf("an empty one is free for another drone: %v", err)
	}
	other.Close()
}

// What an earlier boot wrote, or what is damaged, means nothing to a new agent.
func TestLedgerStartsAnewWhenItIsOfNoUse(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(raw []byte) []byte{
		"another boot": func(raw []byte) []byte {
			h, _ := decodeHeader(raw)
			h.boot = strings.Repeat("0", bootSize)
			_ = h.encode(raw[:slotSize])
			return raw
		},
		"torn header":     func(raw []byte) []byte { raw[textAt]++; return raw },
		"another version": func(raw []byte) []byte { raw[magicAt]++; return raw },
		"torn slot":       func(raw []byte) []byte { raw[slotSize+hardAt]++; return raw },
		"cut":             func(raw []byte) []byte { return raw[:slotSize+5] },
		"cut header":      func(raw []byte) []byte { return raw[:5] },
		"empty":           func([]byte) []byte { return nil },
	} {
		ledger, dir := newLedger(t)
		if err := ledger.Put(Lease{BackendID: "b", HardAtMS: 1}); err != nil {
			t.Fatal(err)
		}
		ledger.Close()
		path := filepath.Join(dir, ledgerName)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, spoil(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := Open(dir, droneOf(dir))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(again.Found()) != 0 {
			t.Errorf("%s: found %v", name, again.Found())
		}
		for _, id := range []string{"c", "d"} {
			if err := again.Put(Lease{BackendID: id, HardAtMS: 1}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if got := written(t, dir); len(got) != 2 {
			t.Errorf("%s: got %v", name, got)
		}
		again.Close()
	}
}

func TestLedgerRefusesWhatCannotBeGuarded(t *testing.T) {
	t.Parallel()
	ledger, dir := newLedger(t)
	for want, lease := range map[string]Lease{
		"must have 1 to 48 bytes":    {HardAtMS: 1},
		"1 to 48 bytes":              {BackendID: strings.Repeat("x", 49), HardAtMS: 1},
		"hard deadline 0":            {BackendID: "b"},
		"hard deadline 1, process -": {BackendID: "b", HardAtMS: 1, PID: -1},
	} {
		if err := ledger.Put(lease); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", lease, err, want)
		}
	}
	if got := written(t, dir); len(got) != 0 {
		t.Fatalf("got %v", got)
	}
}

// The cost of a heartbeat's renewals is that of one write, however many there are.
func BenchmarkRenew(b *testing.B) {
	for _, count := range []int{100, 1000, 8000} {
		b.Run(itoa(count), func(b *testing.B) {
			ledger, err := Open(b.TempDir(), "dr-bench")
			if err != nil {
				b.Fatal(err)
			}
			defer ledger.Close()
			var leases []Lease
			for n := range count {
				leases = append(leases, Lease{BackendID: "b" + itoa(n), HardAtMS: 1})
				if err := ledger.Put(leases[n]); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := ledger.Renew(leases); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
