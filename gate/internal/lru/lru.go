// Package lru is a small bounded memory: the entry that was used longest ago
// makes room for a new one.
package lru

import (
	"container/list"
	"sync"
)

// Cache holds at most a fixed number of entries. It is safe for any number of
// goroutines.
type Cache[K comparable, V any] struct {
	mu      sync.Mutex
	limit   int
	bytes   int         // 0: no bound in bytes
	size    func(V) int // of a value, in bytes
	used    int         // bytes
	order   *list.List  // of entry[K, V], the latest used first
	entries map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// New makes a cache of at most limit entries.
func New[K comparable, V any](limit int) *Cache[K, V] {
	return &Cache[K, V]{limit: limit, order: list.New(), entries: map[K]*list.Element{}}
}

// NewSized makes a cache of at most limit entries whose values hold at most bytes in
// all, as size says of each. A value that is larger than that alone is not kept.
func NewSized[K comparable, V any](limit, bytes int, size func(V) int) *Cache[K, V] {
	c := New[K, V](limit)
	c.bytes, c.size = bytes, size
	return c
}

// Get returns the value of key.
func (c *Cache[K, V]) Get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(element)
	return element.Value.(entry[K, V]).value, true
}

// Put sets the value of key.
func (c *Cache[K, V]) Put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[key]; ok {
		c.remove(element)
	}
	if c.size != nil {
		size := c.size(value)
		if size > c.bytes {
			return // it would drive out all others, and not stay either
		}
		c.used += size
	}
	c.entries[key] = c.order.PushFront(entry[K, V]{key, value})
	for c.order.Len() > c.limit || c.used > c.bytes {
		c.remove(c.order.Back())
	}
}

func (c *Cache[K, V]) remove(element *list.Element) {
	e := c.order.Remove(element).(entry[K, V])
	delete(c.entries, e.key)
	if c.size != nil {
		c.used -= c.size(e.value)
	}
}

// DeleteFunc removes every entry of whose value dead is true.
func (c *Cache[K, V]) DeleteFunc(dead func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for element := c.order.Front(); element != nil; {
		next := element.Next()
		if dead(element.Value.(entry[K, V]).value) {
			c.remove(element)
		}
		element = next
	}
}

// Len returns the number of entries.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}
