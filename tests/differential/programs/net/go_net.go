// timeout=60 Go's net package: its poller is one epoll with edges, its sockets never block, its names are asked in Go.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Println("cannot", err)
		os.Exit(99)
	}
	return value
}

func serveHTTP() {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d", r.Method, r.URL.Path, len(body))
	})
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	var group sync.WaitGroup
	var right atomic.Int64
	for worker := 0; worker < 8; worker++ {
		group.Add(1)
		go func(worker int) {
			defer group.Done()
			transport := &http.Transport{DisableKeepAlives: worker%2 == 0}
			client := http.Client{Transport: transport}
			for turn := 0; turn < 10; turn++ {
				size := worker * turn * 5000
				address := fmt.Sprintf("http://%s/%d", listener.Addr(), worker)
				answer, err := client.Post(address, "text/plain", io.LimitReader(zeros{}, int64(size)))
				if err != nil {
					fmt.Println("post:", err)
					return
				}
				body, _ := io.ReadAll(answer.Body)
				answer.Body.Close()
				if string(body) == fmt.Sprintf("POST /%d %d", worker, size) {
					right.Add(1)
				}
			}
			transport.CloseIdleConnections()
		}(worker)
	}
	group.Wait()
	fmt.Println("http:", right.Load(), server.Shutdown(context.Background()))
	_, err := http.Get("http://" + listener.Addr().String())
	fmt.Println("after its end:", errors.Is(err, syscall.ECONNREFUSED))
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) { return len(into), nil }

// pair is a connection and its other end.
func pair(network, address string) (net.Conn, net.Conn) {
	listener := must(net.Listen(network, address))
	defer listener.Close()
	near := must(net.Dial(network, listener.Addr().String()))
	return near, must(listener.Accept())
}

func streams(network, address string) {
	near, far := pair(network, address)
	go func() {
		io.Copy(near, io.LimitReader(zeros{}, 3_000_000))
		near.(interface{ CloseWrite() error }).CloseWrite()
	}()
	count, err := io.Copy(io.Discard, far)
	fmt.Println(network, "half closed:", count, err)
	fmt.Fprintln(far, "still here")
	line, err := bufio.NewReader(near).ReadString('\n')
	fmt.Printf("%s other way: %q %v\n", network, line, err)

	near.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err = near.Read(make([]byte, 1))
	fmt.Println(network, "deadline:", errors.Is(err, os.ErrDeadlineExceeded))
	near.SetReadDeadline(time.Time{})
	far.Close()
	_, err = near.Read(make([]byte, 1))
	fmt.Println(network, "end:", err == io.EOF)
	near.Close()
	_, err = near.Write([]byte("x"))
	fmt.Println(network, "closed:", errors.Is(err, net.ErrClosed))

	near, far = pair(network, address)
	go func() {
		time.Sleep(20 * time.Millisecond)
		near.Close()
	}()
	_, err = near.Read(make([]byte, 1))
	fmt.Println(network, "closed beside a read:", errors.Is(err, net.ErrClosed))
	far.Close()
}

func main() {
	serveHTTP()
	streams("tcp4", "127.0.0.1:0")
	streams("tcp6", "[::1]:0")
	streams("unix", "socket")

	near, far := pair("tcp", "localhost:0")
	fmt.Println("options:", near.(*net.TCPConn).SetNoDelay(false), near.(*net.TCPConn).SetKeepAlive(true),
		near.(*net.TCPConn).SetKeepAlivePeriod(time.Second), near.(*net.TCPConn).SetReadBuffer(1<<16))
	far.(*net.TCPConn).SetLinger(0)
	far.Close()
	_, err := near.Read(make([]byte, 1))
	fmt.Println("reset:", errors.Is(err, syscall.ECONNRESET))

	udp := must(net.ListenPacket("udp", "127.0.0.1:0"))
	client := must(net.Dial("udp", udp.LocalAddr().String()))
	fmt.Fprint(client, "datagram")
	buffer := make([]byte, 64)
	count, from, err := udp.ReadFrom(buffer)
	fmt.Println("udp:", string(buffer[:count]), from.String() == client.LocalAddr().String(), err)
	udp.Close()
	fmt.Fprint(client, "to nobody")
	_, err = client.Read(buffer)
	fmt.Println("udp, nobody there:", errors.Is(err, syscall.ECONNREFUSED))

	done, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = (&net.Dialer{}).DialContext(done, "tcp", "127.0.0.1:1")
	fmt.Println("cancelled:", errors.Is(err, context.Canceled))
	addresses := must(net.DefaultResolver.LookupHost(context.Background(), "localhost"))
	fmt.Println("localhost:", len(addresses) > 0)
	fmt.Println("interfaces:", len(must(net.Interfaces())) > 0, must(net.InterfaceByName("lo")).Flags&net.FlagLoopback != 0)
}
