// What tests ask of the stand-in; they find it in the library by name, as the product finds NVIDIA's
// functions.
#pragma once

extern "C" {
// Lines that say what the product did wrong so far; empty when nothing. Valid until the next call.
const char* stand_in_findings();
void stand_in_clear();  // findings and counters, and a GPU that was lost works again
// Memory that is allocated now, a line each. Valid until the next call.
const char* stand_in_leaks();
// "allocations", "host_allocations", "frees", "launches", "copies", "fills", "synchronizes", "streams",
// "events", "modules", "compilations", "graphs", "graph_updates", "graph_launches", "peak_bytes": counted
// since the start; "live", "live_host": allocations that there are; "used": bytes of GPU 0. -1 for another
// name.
long stand_in_count(const char* name);
// A member of Settings, or "lost": what every call returns from now on; 0 when there is none of the name.
int stand_in_set(const char* name, const char* value);
// A line for each node of the graph that was launched last: its kernel, the addresses it was given, "after",
// and the numbers of the nodes that it comes after; "overlapping", and those of them whose end it does not
// wait for to begin. Valid until the next call.
const char* stand_in_graph();
// What lies at an address of a GPU, without waiting for anything; 0 when it is not allocated.
int stand_in_peek(void* to, unsigned long long from, unsigned long bytes);
}
