// Command noop is a hook that does nothing: what any hook costs a container start.
package main

func main() {}
