// What a static program in Go asks of a kernel: goroutines on threads, timers, pre-emption by signals, a fault that becomes
// a panic, files, the loopback network, much garbage.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

func squares() (sum int) {
	results := make(chan int, 10)
	var workers sync.WaitGroup
	for i := 0; i < 1000; i++ {
		workers.Add(1)
		go func(i int) {
			defer workers.Done()
			results <- i * i
		}(i)
	}
	go func() { workers.Wait(); close(results) }()
	for result := range results {
		sum += result
	}
	return sum
}

func ticks() (count int) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for ; count < 10; count++ {
		<-ticker.C
	}
	return count
}

// A loop without a call can only be left by a signal.
func preempted() string {
	done := make(chan bool)
	go func() {
		time.Sleep(20 * time.Millisecond)
		close(done)
	}()
	var spins [2]int
	for i := range spins {
		go func(spin *int) {
			for {
				*spin++
			}
		}(&spins[i])
	}
	<-done
	return "left"
}

func lockedThreads() (count int) {
	var lock sync.Mutex
	var threads sync.WaitGroup
	for i := 0; i < 100; i++ {
		threads.Add(1)
		go func() {
			defer threads.Done()
			runtime.LockOSThread()
			for j := 0; j < 100; j++ {
				lock.Lock()
				count++
				lock.Unlock()
			}
			time.Sleep(time.Millisecond)
		}()
	}
	threads.Wait()
	return count
}

func fault() (message string) {
	defer func() { message = fmt.Sprint(recover()) }()
	var nowhere *int
	*nowhere = 1
	return
}

func files(folder string) (int, string) {
	hash := sha256.New()
	count := 0
	check(filepath.Walk(folder, func(path string, info os.FileInfo, err error) error {
		count++
		if err == nil && info.Mode().IsRegular() {
			file, err := os.Open(path)
			check(err)
			defer file.Close()
			_, err = io.Copy(hash, file)
			check(err)
		}
		return err
	}))
	return count, fmt.Sprintf("%x", hash.Sum(nil))
}

func written() int {
	folder, err := os.MkdirTemp("", "goroutines")
	check(err)
	defer os.RemoveAll(folder)
	file, err := os.Create(filepath.Join(folder, "numbers"))
	check(err)
	for i := 0; i < 1000; i++ {
		fmt.Fprintln(file, i)
	}
	check(file.Close())
	bytes, err := os.ReadFile(file.Name())
	check(err)
	return len(bytes)
}

func echoes() (total int) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(connection, connection); connection.Close() }()
		}
	}()
	for i := 0; i < 50; i++ {
		connection, err := net.Dial("tcp", listener.Addr().String())
		check(err)
		fmt.Fprintf(connection, "hello %d", i)
		check(connection.(*net.TCPConn).CloseWrite())
		echo, err := io.ReadAll(connection)
		check(err)
		total += len(echo)
		connection.Close()
	}
	listener.Close()
	return total
}

func collections() bool {
	for i := 0; i < 200; i++ {
		_ = make([]byte, 1<<20)
	}
	var statistics runtime.MemStats
	runtime.ReadMemStats(&statistics)
	return statistics.NumGC > 3
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	fmt.Println("squares", squares())
	fmt.Println("ticks", ticks())
	fmt.Println("threads", lockedThreads())
	fmt.Println("fault:", fault())
	fmt.Println(files(os.Args[1]))
	fmt.Println("written", written())
	fmt.Println("echoes", echoes())
	fmt.Println("collected", collections())
	fmt.Println("preempted", preempted())
	os.Exit(5)
}
