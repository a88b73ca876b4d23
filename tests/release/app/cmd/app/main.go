// app is released by the tests.
package main

var release = "devel"

func main() { println("app", release) }
