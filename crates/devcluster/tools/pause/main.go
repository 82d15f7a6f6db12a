// Process 1 of every namespace and of every pod sandbox. It does nothing until it is told to end: while it lives, the
// namespaces live. Orphans are handed to process 1; with SIGCHLD ignored the kernel reaps them all by itself.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGCHLD, syscall.SIGHUP)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
}
