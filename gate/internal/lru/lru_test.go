package lru

import (
	"strings"
	"testing"
)

func TestTheEntryUsedLongestAgoMakesRoom(t *testing.T) {
	c := New[string, int](2)
	c.Put("a", 1)
	c.Put("b", 2)
	c.Get("a")
	c.Put("c", 3)
	if _, ok := c.Get("b"); ok {
		t.Error("b is still there")
	}
	if v, ok := c.Get("a"); !ok || v != 1 {
		t.Errorf("a: got %d, %v", v, ok)
	}
	if c.Len() != 2 {
		t.Errorf("%d entries, expected 2", c.Len())
	}
}

func TestPutReplaces(t *testing.T) {
	c := New[string, int](2)
	c.Put("a", 1)
	c.Put("a", 2)
	if v, _ := c.Get("a"); v != 2 || c.Len() != 1 {
		t.Errorf("got %d, %d entries", v, c.Len())
	}
}

func TestValuesAreBoundedInBytes(t *testing.T) {
	c := NewSized[int](10, 100, func(s string) int { return len(s) })
	c.Put(1, strings.Repeat("a", 60))
	c.Put(2, strings.Repeat("b", 40))
	c.Put(1, strings.Repeat("c", 50)) // in place of the first
	if c.Len() != 2 {
		t.Errorf("%d entries, expected 2", c.Len())
	}
	c.Put(3, strings.Repeat("d", 20))
	if _, ok := c.Get(2); ok || c.Len() != 2 {
		t.Errorf("%d entries, and the oldest is there: %v", c.Len(), ok)
	}
	c.Put(4, strings.Repeat("e", 101))
	if c.Len() != 2 || c.used != 70 {
		t.Errorf("%d entries of %d bytes beside one that is too large", c.Len(), c.used)
	}
	c.Put(3, strings.Repeat("e", 101)) // what was there before is no longer true
	if _, ok := c.Get(3); ok || c.Len() != 1 || c.used != 50 {
		t.Errorf("%d entries of %d bytes, and the replaced one is there: %v", c.Len(), c.used, ok)
	}
}
