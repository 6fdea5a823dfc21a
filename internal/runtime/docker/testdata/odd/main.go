// Command odd is what the containers of the tests run: what AS says.
package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	part, argument, _ := strings.Cut(os.Getenv("AS"), " ")
	number, _ := strconv.Atoi(argument)
	term := make(chan os.Signal, 1)
	switch part {
	case "serve": // listens, and ends with 0 on SIGTERM
		signal.Notify(term, syscall.SIGTERM)
		go func() { panic(http.ListenAndServe(":"+os.Getenv("PORT"), http.NotFoundHandler())) }()
		fmt.Println("ready")
		fmt.Println("ended by", <-term)
	case "show": // prints what it got, and ends with 3
		env := os.Environ()
		slices.Sort(env)
		for _, name := range env {
			fmt.Println("env", name)
		}
		fmt.Fprintln(os.Stderr, "to stderr")
		status, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "NoNewPrivs") || strings.HasPrefix(line, "CapEff") {
				fmt.Print(line)
			}
		}
		os.Exit(3)
	case "exit": // prints, and ends with the number
		fmt.Println("line 1")
		fmt.Fprintln(os.Stderr, "line 2")
		fmt.Print("no end")
		os.Exit(number)
	case "deaf": // ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "quiet": // does not listen, and ends with 0 on SIGTERM
		signal.Notify(term, syscall.SIGTERM)
		fmt.Println("ready")
		<-term
	case "two": // prints two lines, then nothing
		fmt.Print("line one\nline two\n")
		time.Sleep(time.Hour)
	case "flood": // prints so many MB
		line := []byte(strings.Repeat("x", 1023) + "\n")
		block := slices.Repeat(line, 1024)
		for range number {
			if _, err := os.Stdout.Write(block); err != nil {
				os.Exit(1)
			}
		}
		fmt.Println("the last line")
	case "count": // prints numbers, every so many ms
		signal.Notify(term, syscall.SIGTERM)
		for n := 0; ; n++ {
			fmt.Println("count", n)
			fmt.Fprintln(os.Stderr, "errors", n)
			select {
			case <-term:
				fmt.Println("counted", n)
				return
			case <-time.After(time.Duration(number) * time.Millisecond):
			}
		}
	case "fork": // has so many children, in sessions of their own
		for range number {
			child := exec.Command("/proc/self/exe")
			child.Env = []string{"AS=deaf"}
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := child.Start(); err != nil {
				fmt.Println("refused:", err)
				os.Exit(4)
			}
		}
		signal.Notify(term, syscall.SIGTERM)
		fmt.Println("ready")
		<-term
	case "eat": // takes memory, more than a limit leaves it, and less than the machine has
		if argument == "later" { // once somebody connects
			listener, err := net.Listen("tcp", ":"+os.Getenv("PORT"))
			if err == nil {
				fmt.Println("ready") // only now: the engine's own proxy answers before
				_, err = listener.Accept()
			}
			if err != nil {
				panic(err)
			}
		}
		fmt.Println("eating")
		var eaten [][]byte
		for len(eaten) < 256 {
			bite := make([]byte, 1<<20)
			for n := range bite {
				bite[n] = byte(n)
			}
			eaten = append(eaten, bite)
		}
	case "spin": // takes processor time without end
		for {
		}
	case "append": // adds a line to a file
		file, err := os.OpenFile(argument, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = fmt.Fprintln(file, "line")
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(6)
		}
	case "swap": // swaps a directory of its mount and a link to the argument, without end
		const doc, dir, link = "/plane-data/doc", "/plane-data/dir", "/plane-data/link"
		if err := errors.Join(os.RemoveAll(doc), os.RemoveAll(dir), os.RemoveAll(link), os.Mkdir(dir, 0o755), os.Symlink(argument, link)); err != nil {
			fmt.Println(err)
			os.Exit(6)
		}
		fmt.Println("ready")
		for {
			_ = os.Rename(dir, doc)
			time.Sleep(2 * time.Millisecond)
			_ = os.Rename(doc, dir)
			_ = os.Rename(link, doc)
			time.Sleep(2 * time.Millisecond)
			_ = os.Rename(doc, link)
		}
	case "fill": // fills a disk
		file, err := os.Create(argument)
		for block := make([]byte, 1<<20); err == nil; {
			_, err = file.Write(block)
		}
		fmt.Println("full:", err)
		os.Exit(5)
	default:
		fmt.Println("as what?")
		os.Exit(9)
	}
}
