package process_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
)

// The test binary is also the backend that it runs: with a first argument "as=…" it
// plays that part. The tests copy it below a root of their own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if part, ok := strings.CutPrefix(os.Args[1], "as="); ok {
			play(part, os.Args[2:])
			os.Exit(0)
		}
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "8") // they wait more than they work
	testkit.Main(m)
}

func play(part string, args []string) {
	switch part {
	case "serve": // listens, and ends with 0 on SIGTERM
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
		must(err)
		fmt.Println("ready")
		<-term
		must(listener.Close())
		fmt.Println("goodbye")
	case "show": // prints what it got, and ends with 3
		for _, name := range os.Environ() {
			fmt.Println("env", name)
		}
		dir, _ := os.Getwd()
		rest, _ := io.ReadAll(os.Stdin)
		fmt.Println("dir", dir)
		fmt.Println("args", strings.Join(os.Args, " "))
		fmt.Println("stdin", len(rest))
		fmt.Fprintln(os.Stderr, "to stderr")
		os.Exit(3)
	case "deaf": // ignores SIGTERM
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		fmt.Println("pid", os.Getpid())
		for range term {
		}
	case "parent": // has a deaf child; "setsid" moves the child out of the group, and ends with 0 on SIGTERM
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGWINCH) // nobody sends it; a program that waits for nothing at all is ended by Go
		if args[0] == "setsid" {
			signal.Notify(term, syscall.SIGTERM)
		}
		child := exec.Command(os.Args[0], "as=deaf")
		child.Stdout = os.Stdout
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: args[0] == "setsid"}
		must(child.Start())
		<-term
	case "flood": // writes this many MiB of lines
		mebibytes, err := strconv.Atoi(args[0])
		must(err)
		block := strings.Repeat(strings.Repeat("x", 127)+"\n", 8192)
		for range mebibytes {
			_, err := os.Stdout.WriteString(block)
			must(err)
		}
		fmt.Fprintln(os.Stderr, "written")
	case "long": // a line of many buffers, one that is not UTF-8, one without an end
		fmt.Print(strings.Repeat("é", 20_000), "\r\n", "a\xffb\n", "no end")
	case "keeper": // see keep; CONFIG EXECUTABLE
		keep(args[0], args[1])
	case "eat": // fills its memory with as many MiB
		mebibytes, err := strconv.Atoi(args[0])
		must(err)
		var held [][]byte
		for range mebibytes {
			held = append(held, bytes.Repeat([]byte{1}, 1<<20))
		}
		fmt.Println("eaten", len(held))
	case "fork": // starts as many children as it can, and says how many it has from the second number on; it may die of having no room for a thread
		count, err := strconv.Atoi(args[0])
		must(err)
		from, err := strconv.Atoi(args[1])
		must(err)
		got := 0
		for range count {
			if exec.Command("/bin/sleep", "1000").Start() != nil {
				continue
			}
			if got++; got >= from {
				fmt.Println("forked", got)
			}
		}
		select {}
	case "talker": // does what it is told over its port
		talk()
	case "lasting": // an agent that starts a talker which outlives it; ROOT STATE DRONE ID CGROUP
		r, err := process.New(process.Config{Root: args[0], StateDir: args[1], Drone: args[2], Cgroup: args[4]})
		must(err)
		instance, err := r.Start(context.Background(), runtime.Spec{
			BackendID:  args[3],
			Executable: []byte(`{"command": ["helper", "as=talker"]}`),
			Env:        map[string]string{runtime.EnvBackendID: args[3]},
			Log:        func(line runtime.Line) { fmt.Println("line", line.Text) },
		})
		must(err)
		fmt.Println("pid", instance.PID())
		fmt.Println("address", instance.Address())
		fmt.Println("handle", instance.Handle())
		select {}
	case "agent": // starts a deaf process with a runtime of its own
		r, err := process.New(process.Config{Root: args[0]})
		must(err)
		_, err = r.Start(context.Background(), runtime.Spec{
			BackendID:  "b",
			Executable: []byte(`{"command": ["helper", "as=deaf"]}`),
			Log:        func(line runtime.Line) { fmt.Println(line.Text) },
		})
		must(err)
		select {}
	}
}

// keep is an agent that starts one backend, as the keeper of a test tells it, says what it
// prints, and ends it when it is told to.
func keep(config, executable string) {
	must(procs.Seal())
	var c process.Config
	must(json.Unmarshal([]byte(config), &c))
	rt, err := process.New(c)
	must(err)
	why, limits := rt.(interface {
		Lacks() (string, map[string]string)
	}).Lacks()
	fmt.Println("lacks", why)
	fmt.Println("limits", limits)
	fmt.Println("unconfined", rt.(interface{ Unconfined() string }).Unconfined())
	if grouped, ok := rt.(runtime.Grouped); ok {
		fmt.Println("group", grouped.Group("b"))
	}
	instance, err := rt.Start(context.Background(), runtime.Spec{
		BackendID: "b", Executable: []byte(executable),
		Log: func(line runtime.Line) { fmt.Println("line", line.Text) },
	})
	must(err)
	go func() {
		order, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		must(instance.Terminate(context.Background(), order == "kill\n"))
	}()
	<-instance.Done()
	fmt.Println("done", instance.Exit())
	must(rt.Close())
}

// talk takes one order per connection, and answers when it is done.
func talk() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	must(err)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		fmt.Println("goodbye")
		os.Exit(7)
	}()
	fmt.Println("ready")
	for {
		conn, err := listener.Accept()
		must(err)
		order, err := bufio.NewReader(conn).ReadString('\n')
		must(err)
		word, rest, _ := strings.Cut(strings.TrimSpace(order), " ")
		switch word {
		case "say":
			fmt.Println(rest)
		case "flood": // that many lines, from now on
			count, err := strconv.Atoi(rest)
			must(err)
			go func() {
				for n := range count {
					fmt.Println("flood", n, strings.Repeat("x", 100))
				}
				fmt.Println("flooded")
			}()
		case "child": // a deaf one in the group, or with "setsid" out of it
			child := exec.Command(os.Args[0], "as=deaf")
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: rest == "setsid"}
			must(child.Start())
			fmt.Fprint(conn, child.Process.Pid)
		case "burn": // that much processor time
			span, err := time.ParseDuration(rest)
			must(err)
			for before := used(syscall.RUSAGE_SELF); used(syscall.RUSAGE_SELF)-before < span; {
			}
		case "exit":
			code, err := strconv.Atoi(rest)
			must(err)
			os.Exit(code)
		}
		must(conn.Close())
	}
}

func used(who int) time.Duration {
	var usage syscall.Rusage
	must(syscall.Getrusage(who, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
}

// newRoot makes a directory with the helper in it.
func newRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	helper := filepath.Join(root, "helper")
	if os.Link(self, helper) == nil {
		return root
	}
	source, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	target, err := os.OpenFile(helper, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if _, err := io.Copy(target, source); err != nil {
		t.Fatal(err)
	}
	return root
}
