package cli

import (
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// dronesCmd is `jetway drones`.
type dronesCmd struct{ clientFlags }

// Run lists drones.
func (c *dronesCmd) Run(r *run) error {
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	list, err := listDrones(r, &c.clientFlags, nc)
	if err != nil {
		return err
	}
	if c.JSON {
		return r.printIndented(list)
	}
	rows, anySpares := make([][]string, 0, len(list)), false
	for i := range list {
		d := &list[i]
		anySpares = anySpares || len(d.Spares) > 0
		backends := strconv.Itoa(d.Backends)
		switch {
		case d.Lost:
			backends = "0" // what it had ends
		case d.MaxBackends > 0:
			backends += "/" + strconv.Itoa(d.MaxBackends)
		}
		memory, cpus := promised(d.MemoryBytes, d.MaxMemoryBytes, bytesText), promised(d.CPUMillis, d.MaxCPUMillis, cpusText)
		if d.Lost {
			memory, cpus = "", ""
		}
		rows = append(rows, []string{
			d.Drone, droneState(d), backends, sparesText(d.Spares), memory, cpus, d.Cluster, d.Pool, d.Runtime,
			age(time.Duration(d.HeardMSAgo)*time.Millisecond) + " ago", d.Version, whyNotReady(d),
		})
	}
	header := []string{"DRONE", "STATE", "BACKENDS", "SPARES", "MEMORY", "CPUS", "CLUSTER", "POOL", "RUNTIME", "HEARD", "VERSION", "NOT READY BECAUSE"}
	if n := len(header) - 1; !slices.ContainsFunc(rows, func(row []string) bool { return row[n] != "" }) {
		header = header[:n]
		for i := range rows {
			rows[i] = rows[i][:n]
		}
	}
	if n := slices.Index(header, "SPARES"); !anySpares {
		header = slices.Delete(header, n, n+1)
		for i := range rows {
			rows[i] = slices.Delete(rows[i], n, n+1)
		}
	}
	r.table(header, rows)
	return nil
}

func listDrones(r *run, f *clientFlags, nc *nats.Conn) ([]messages.DroneInfo, error) {
	return pages(0, func(page messages.Page) ([]messages.DroneInfo, string, error) {
		resp, err := ask[messages.DronesResponse](r, f, nc, messages.SubjectDrones, messages.DronesRequest{Page: page})
		return resp.Drones, resp.Next, err
	})
}

// promised shows how much of its capacity a drone has promised to backends; "" if it states neither.
func promised(used, most int64, text func(int64) string) string {
	switch {
	case most > 0:
		return text(used) + "/" + text(most)
	case used > 0:
		return text(used)
	}
	return ""
}

// cpusText is thousandths of processors as processors.
func cpusText(millis int64) string { return strconv.FormatFloat(float64(millis)/1000, 'f', -1, 64) }

// whyNotReady is why the drone takes no backends, in its own words: of one that is lost in its last ones.
func whyNotReady(d *messages.DroneInfo) string {
	if d.Ready {
		return ""
	}
	return d.NotReady
}

// nearlyFull says whether a drone has given away nine tenths of its backends, its memory or its processors.
func nearlyFull(d *messages.DroneInfo) bool {
	near := func(used, most int64) bool { return most > 0 && float64(used) >= 0.9*float64(most) }
	return near(int64(d.Backends), int64(d.MaxBackends)) || near(d.MemoryBytes, d.MaxMemoryBytes) || near(d.CPUMillis, d.MaxCPUMillis)
}

func droneState(d *messages.DroneInfo) string {
	switch {
	case d.Lost:
		return "lost"
	case d.Draining:
		return "draining"
	case d.Ready && d.Full:
		return "full"
	case d.Ready && nearlyFull(d):
		return "nearly full"
	case d.Ready:
		return "ready"
	}
	return "not ready"
}
