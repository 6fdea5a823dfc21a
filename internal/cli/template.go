package cli

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// templateCmd is `jetway template`.
type templateCmd struct {
	Put    templatePutCmd    `cmd:"" help:"Make a template, or change it: a program with a name, of which drones keep spares."`
	Get    templateGetCmd    `cmd:"" help:"Show a template, and what drones say of its spares."`
	List   templateListCmd   `cmd:"" help:"List templates."`
	Delete templateDeleteCmd `cmd:"" help:"Delete a template. What runs goes on; its spares end."`
}

// templatePutCmd is `jetway template put`.
type templatePutCmd struct {
	clientFlags
	Name string   `arg:"" predictor:"template" help:"The template's name: 1 to 45 characters of a-z, 0-9 and '-'."`
	Args []string `arg:"" optional:"" name:"args" help:"Arguments of the program, after --."`
	program
	Cluster   string        `placeholder:"HOST[:PORT]" help:"Cluster of its backends. Default: the worker's --default-cluster."`
	Pool      string        `placeholder:"NAME" help:"Pool of the drones that run its backends and keep its spares."`
	Spares    int           `placeholder:"N" help:"How many spares each drone of the pool keeps: instances that it starts before anybody asks. Default: none."`
	ClaimPath string        `placeholder:"PATH" help:"Where a spare is told, by POST, which backend it is from now on. Needed with --spares."`
	MaxIdle   time.Duration `placeholder:"DURATION" help:"End its backends this long after their last connection, where a connect does not say. Default: never."`
	Lifetime  time.Duration `placeholder:"DURATION" help:"End its backends this long after their start, where a connect does not say. Default: never."`
	Revision  int64         `placeholder:"N" help:"Change it only if it still has this revision, which jetway template get shows: else somebody else has changed it meanwhile."`
}

// Help is part of jetway template put --help.
func (c *templatePutCmd) Help() string {
	return `It replaces the whole template of that name. New backends are of the changed one; those that run go on as they are.

Examples:
  jetway template put room --command room --spares 4 --claim-path /claim     keep four ready on each drone
  jetway template put room --executable '{"image":"room:2"}' --max-idle 5m    a container, without spares
  jetway template put room --executable @room.json --revision 1796037676170   only if nobody has changed it
  jetway connect --key doc-1 --template room                                  use it`
}

// Run puts a template.
func (c *templatePutCmd) Run(r *run) error {
	t, err := c.template(r.args)
	if err != nil {
		return err
	}
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	done, err := ask[messages.PutTemplateResponse](r, &c.clientFlags, nc, messages.SubjectTemplatePut, t)
	if err != nil {
		return err
	}
	if done.Drones == 0 {
		r.notef("jetway: no drone of its cluster and pool is known yet: connects that name it are refused until there is one")
	}
	if c.JSON {
		return r.printIndented(struct {
			Name string `json:"name"`
			messages.PutTemplateResponse
		}{c.Name, done})
	}
	switch done.Replaced {
	case 0:
		r.printf("%s is made, revision %d\n", c.Name, done.Revision)
	case done.Revision:
		r.printf("%s is as it was, revision %d\n", c.Name, done.Revision)
	default:
		r.printf("%s is changed, revision %d (was %d)\n", c.Name, done.Revision, done.Replaced)
	}
	return nil
}

// template puts it together. Its errors name flags.
func (c *templatePutCmd) template(args []string) (t messages.Template, err error) {
	if len(c.Args) > behind(args) {
		return t, usagef("%s: is not behind --: a program is given as --command %[1]s, its arguments after --", c.Args[0])
	}
	t = messages.Template{Name: c.Name, Cluster: c.Cluster, Pool: c.Pool, Spares: c.Spares, ClaimPath: c.ClaimPath, Revision: c.Revision}
	if t.Executable, err = c.executable(c.Args); err != nil {
		return t, err
	}
	if t.Executable == nil {
		return t, usagef("--command: give it, or --executable: a template says what to run")
	}
	if t.MaxIdleSeconds, err = seconds("--max-idle", c.MaxIdle); err != nil {
		return t, err
	}
	if t.LifetimeLimitSeconds, err = seconds("--lifetime", c.Lifetime); err != nil {
		return t, err
	}
	if _, err := messages.Decode[messages.Template](messages.Encode(t)); err != nil {
		return t, invalid(err)
	}
	return t, nil
}

// templateGetCmd is `jetway template get`.
type templateGetCmd struct {
	clientFlags
	Name string `arg:"" predictor:"template" help:"The template's name."`
}

// Run shows a template.
func (c *templateGetCmd) Run(r *run) error {
	if err := messages.CheckTemplateName(c.Name); err != nil {
		return invalid(err)
	}
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	info, err := ask[messages.TemplateInfo](r, &c.clientFlags, nc, messages.SubjectTemplateGet, messages.TemplateRequest{Name: c.Name})
	if err != nil {
		return err
	}
	if c.JSON {
		return r.printIndented(info)
	}
	limit := func(n *int64) string {
		if n == nil {
			return ""
		}
		return age(time.Duration(*n) * time.Second)
	}
	r.facts("template", info.Name, "revision", strconv.FormatInt(info.Revision, 10)+", "+age(r.now().Sub(info.ChangedAt))+" ago",
		"cluster", info.Cluster, "pool", info.Pool, "runs", string(info.Executable),
		"max idle", limit(info.MaxIdleSeconds), "lifetime", limit(info.LifetimeLimitSeconds), "claim path", info.ClaimPath)
	if info.Spares == 0 && len(info.Drones) == 0 {
		return nil
	}
	r.facts("spares", strconv.Itoa(info.Spares)+" a drone: "+strconv.Itoa(info.SparesReady)+" ready, "+strconv.Itoa(info.SparesStarting)+" starting")
	if len(info.Drones) == 0 {
		return nil
	}
	rows := make([][]string, 0, len(info.Drones))
	for _, d := range info.Drones {
		revision := ""
		if d.Revision != info.Revision {
			revision = "an earlier revision: "
		}
		rows = append(rows, []string{
			d.Drone, strconv.Itoa(d.Ready), strconv.Itoa(d.Starting), strconv.FormatInt(d.Claims, 10), strconv.FormatInt(d.Misses, 10), oneLine(revision + d.Error),
		})
	}
	r.printf("\n")
	r.table([]string{"DRONE", "READY", "STARTING", "CLAIMS", "MISSES", "LAST ERROR"}, rows)
	if info.MoreDrones {
		r.printf("and more drones\n")
	}
	return nil
}

// templateListCmd is `jetway template list`.
type templateListCmd struct{ clientFlags }

// Run lists templates.
func (c *templateListCmd) Run(r *run) error {
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	list, err := pages(0, func(page messages.Page) ([]messages.TemplateInfo, string, error) {
		resp, err := ask[messages.ListTemplatesResponse](r, &c.clientFlags, nc, messages.SubjectTemplateList, messages.ListTemplatesRequest{Page: page})
		return resp.Templates, resp.Next, err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return r.printIndented(list)
	}
	rows := make([][]string, 0, len(list))
	for i := range list {
		t := &list[i]
		rows = append(rows, []string{
			t.Name, t.Cluster, t.Pool, strconv.Itoa(t.Spares), strconv.Itoa(t.SparesReady), strconv.Itoa(t.SparesStarting),
			strconv.FormatInt(t.Claims, 10), strconv.FormatInt(t.Misses, 10), messages.Runs(t.Executable), oneLine(t.Error),
		})
	}
	r.table([]string{"TEMPLATE", "CLUSTER", "POOL", "SPARES", "READY", "STARTING", "CLAIMS", "MISSES", "RUNS", "LAST ERROR"}, rows)
	return nil
}

// templateDeleteCmd is `jetway template delete`.
type templateDeleteCmd struct {
	clientFlags
	Name     string `arg:"" predictor:"template" help:"The template's name."`
	Revision int64  `placeholder:"N" help:"Delete it only if it still has this revision."`
}

// Run deletes a template.
func (c *templateDeleteCmd) Run(r *run) error {
	req := messages.TemplateRequest{Name: c.Name, Revision: c.Revision}
	if _, err := messages.Decode[messages.TemplateRequest](messages.Encode(req)); err != nil {
		return invalid(err)
	}
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := ask[messages.Empty](r, &c.clientFlags, nc, messages.SubjectTemplateDelete, req); err != nil {
		return err
	}
	if c.JSON {
		return r.printIndented(req)
	}
	r.printf("%s is deleted\n", c.Name)
	return nil
}

// templateNames completes them.
func templateNames(r *run, f *clientFlags, nc *nats.Conn) (words []string) {
	page, err := ask[messages.ListTemplatesResponse](r, f, nc, messages.SubjectTemplateList, messages.ListTemplatesRequest{})
	for i := range page.Templates {
		words = append(words, page.Templates[i].Name)
	}
	return ifNil(words, err)
}

// sparesText is how many spares a drone keeps; "" where it keeps none.
func sparesText(spares []messages.SpareState) string {
	if len(spares) == 0 {
		return ""
	}
	ready, starting := 0, 0
	for _, s := range spares {
		ready, starting = ready+s.Ready, starting+s.Starting
	}
	text := strconv.Itoa(ready)
	if starting > 0 {
		text += " (+" + strconv.Itoa(starting) + ")"
	}
	return text
}
