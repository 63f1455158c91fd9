// timeout=60 Go's runtime: threads by clone(2), futexes, SIGURG to stop loops, netpoll for pipes, its own signal stacks.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

func main() {
	runtime.GOMAXPROCS(4)
	var group sync.WaitGroup
	numbers := make(chan int)
	sum := 0
	for worker := 0; worker < 50; worker++ {
		group.Add(1)
		go func(worker int) {
			defer group.Done()
			for turn := 0; turn < 100; turn++ {
				numbers <- worker * turn
			}
		}(worker)
	}
	go func() { group.Wait(); close(numbers) }()
	for number := range numbers {
		sum += number
	}
	fmt.Println("goroutines:", sum)

	var stop [4]bool
	for worker := range stop {
		go func(flag *bool) {
			for !*flag { // no call in it: only a signal takes the processor away
			}
		}(&stop[worker])
	}
	ticks := 0
	ticker := time.NewTicker(5 * time.Millisecond)
	for ticks < 5 {
		<-ticker.C
		ticks++
	}
	runtime.GC() // stops the world, loops and all
	fmt.Println("loops are stopped:", ticks)
	for worker := range stop {
		stop[worker] = true
	}

	caught := make(chan os.Signal, 4)
	signal.Notify(caught, syscall.SIGUSR1, syscall.SIGTERM)
	for _, signo := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM} {
		syscall.Kill(os.Getpid(), signo)
		fmt.Println("signal:", <-caught)
	}
	func() {
		defer func() { fmt.Println("fault:", recover()) }()
		var nothing *int
		fmt.Println(*nothing)
	}()
	func() {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() { fmt.Println("protected:", recover() != nil) }()
		page, _ := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		page[0] = 1
	}()

	command := exec.Command("sh", "-c", "read line; echo $line >&2; kill -9 $$")
	command.Stdin = bytes.NewBufferString("through a pipe\n")
	var said bytes.Buffer
	command.Stderr = &said
	fmt.Printf("child: %v, %q\n", command.Run(), said.String())
	command = exec.Command("sleep", "60")
	command.Start()
	command.Process.Kill()
	fmt.Println("killed:", command.Wait())

	reader, writer, _ := os.Pipe()
	go func() { time.Sleep(10 * time.Millisecond); writer.Write([]byte("late")); writer.Close() }()
	buffer := make([]byte, 16)
	count, err := reader.Read(buffer)
	fmt.Printf("pipe: %q %v\n", buffer[:count], err)
	reader.SetReadDeadline(time.Now().Add(-time.Second))
	_, err = reader.Read(buffer)
	fmt.Println("pipe deadline:", os.IsTimeout(err))

	memory := make([][]byte, 0)
	for turn := 0; turn < 64; turn++ {
		memory = append(memory, make([]byte, 1<<20))
	}
	memory = nil
	debug.FreeOSMemory()
	fmt.Println("memory:", len(memory))
}
