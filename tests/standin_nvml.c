/* A stand-in for libnvidia-ml.so.1: the calls that ttstrace makes through pynvml, answered from a text file.
 *
 * The file's path is in STANDIN_NVML; without it there is no driver. Each line is "<device> <key> <value>...":
 *
 *   0 uuid GPU-...            0 pci 00000000:01:00.0      0 name Stand-in GPU
 *   0 energy <mJ>             0 temperature <Cel>         0 part           (of a card divided by MIG: not counted)
 *   0 compute <pid> <bytes>   0 graphics <pid> <bytes>    (bytes below 0: not available)
 *   0 sample <us> <percent>   0 fails <function> <code>   - fails <function> <code>      - cuda 12060
 *
 * Every call is noted in "<path>.log" as "<pid> <device> <function>".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };

typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { unsigned long long time; union { double d; unsigned u; unsigned long long ull; } value; } Sample;

static int initialized;

static const char *state_path(void) { return getenv("STANDIN_NVML"); }

/* Calls `line` with each value of `key` that `device` (-1: none) has; returns how many there were. */
typedef void (*Line)(const char *value, void *to);

static int each(int device, const char *key, Line line, void *to) {
    char text[512], found_key[64];
    int count = 0, at, of;
    FILE *file = fopen(state_path(), "r");
    if (!file) return 0;
    while (fgets(text, sizeof text, file)) {
        text[strcspn(text, "\n")] = 0;
        of = text[0] == '-' ? -1 : atoi(text);
        at = 0;
        if (sscanf(text, "%*s %63s %n", found_key, &at) < 1 || of != device || strcmp(found_key, key)) continue;
        count++;
        if (line) line(at ? text + at : "", to);
    }
    fclose(file);
    return count;
}

static void keep_text(const char *value, void *to) { strncpy(to, value, 127); }
static void keep_number(const char *value, void *to) { *(long long *)to = atoll(value); }

struct Fault { const char *function; int code; };
static void keep_fault(const char *value, void *to) {
    char name[64]; int code; struct Fault *fault = to;
    if (sscanf(value, "%63s %d", name, &code) == 2 && !strcmp(name, fault->function)) fault->code = code;
}

static int enter(int device, const char *function) {
    char path[512];
    struct Fault fault = {function, SUCCESS};
    FILE *log;
    if (!state_path()) return DRIVER_NOT_LOADED;
    snprintf(path, sizeof path, "%s.log", state_path());
    if ((log = fopen(path, "a"))) { fprintf(log, "%d %d %s\n", getpid(), device, function); fclose(log); }
    if (!initialized && strcmp(function, "nvmlInitWithFlags")) return UNINITIALIZED;
    each(device, "fails", keep_fault, &fault);
    return fault.code;
}

#define ENTER(device) do { int code = enter(device, __func__); if (code) return code; } while (0)
#define DEVICE(handle) ((int)(long)(handle) - 1)

static int known(int device) { return each(device, "uuid", NULL, NULL) > 0; }

int nvmlInitWithFlags(unsigned flags) { ENTER(-1); initialized = 1; return SUCCESS; }
int nvmlShutdown(void) { ENTER(-1); initialized = 0; return SUCCESS; }
const char *nvmlErrorString(int code) { return "Stand-in error"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    ENTER(-1);
    *count = 0;
    for (int device = 0; known(device); device++) if (!each(device, "part", NULL, NULL)) ++*count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    ENTER(-1);
    if (!known(index)) return INVALID_ARGUMENT;
    *handle = (void *)(long)(index + 1);
    return SUCCESS;
}

static int find(const char *key, const char *wanted, void **handle) {
    for (int device = 0; known(device); device++) {
        char found[128] = "";
        each(device, key, keep_text, found);
        if (!strcmp(found, wanted)) { *handle = (void *)(long)(device + 1); return SUCCESS; }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) { ENTER(-1); return find("uuid", uuid, handle); }
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **handle) { ENTER(-1); return find("pci", id, handle); }

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    char found[128] = "";
    ENTER(DEVICE(handle));
    each(DEVICE(handle), "name", keep_text, found);
    snprintf(name, length, "%s", found);
    return SUCCESS;
}

struct Processes { Process *to; unsigned room, count; };
static void keep_process(const char *value, void *to) {
    struct Processes *found = to;
    long long used; unsigned pid;
    if (sscanf(value, "%u %lld", &pid, &used) == 2 && found->count < found->room)
        found->to[found->count++] = (Process){pid, used < 0 ? ~0ULL : (unsigned long long)used, ~0u, ~0u};
}

static int processes(int device, const char *key, unsigned *count, Process *to) {
    struct Processes found = {to, *count, 0};
    unsigned there = each(device, key, NULL, NULL);
    if (there > *count || (there && !to)) { *count = there; return INSUFFICIENT_SIZE; }
    each(device, key, keep_process, &found);
    *count = found.count;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, Process *to) {
    ENTER(DEVICE(handle));
    return processes(DEVICE(handle), "compute", count, to);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, Process *to) {
    ENTER(DEVICE(handle));
    return processes(DEVICE(handle), "graphics", count, to);
}

struct Samples { Sample *to; unsigned room, count; unsigned long long after; };
static void keep_sample(const char *value, void *to) {
    struct Samples *found = to;
    unsigned long long time; unsigned percent;
    if (sscanf(value, "%llu %u", &time, &percent) == 2 && time > found->after && found->count < found->room) {
        found->to[found->count].time = time;
        found->to[found->count++].value.u = percent;
    }
}

int nvmlDeviceGetSamples(void *handle, int kind, unsigned long long after, int *type, unsigned *count, Sample *to) {
    ENTER(DEVICE(handle));
    if (kind != 1) return INVALID_ARGUMENT;
    *type = 1;
    if (!to) { *count = 120; return SUCCESS; } /* the size of the buffer, whatever is in it */
    struct Samples found = {to, *count, 0, after};
    each(DEVICE(handle), "sample", keep_sample, &found);
    *count = found.count;
    return found.count ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *energy) {
    long long found = 0;
    ENTER(DEVICE(handle));
    each(DEVICE(handle), "energy", keep_number, &found);
    *energy = found;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *temperature) {
    long long found = 0;
    ENTER(DEVICE(handle));
    if (sensor) return INVALID_ARGUMENT;
    each(DEVICE(handle), "temperature", keep_number, &found);
    *temperature = found;
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion(int *version) {
    long long found = 0;
    ENTER(-1);
    each(-1, "cuda", keep_number, &found);
    *version = found;
    return SUCCESS;
}
