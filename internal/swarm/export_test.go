package swarm

// Hosts is of how many hosts something is kept.
func (ms *Members) Hosts() int {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return len(ms.hosts)
}
