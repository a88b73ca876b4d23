// other is released beside app.
package main

func main() { println("other") }
