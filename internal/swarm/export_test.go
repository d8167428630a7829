package swarm

// Hosts returns the number of hosts in the register.
func (ms *Members) Hosts() int {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return len(ms.register.hosts)
}
