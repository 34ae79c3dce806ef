/* Counts the instructions of a program that runs in qemu-user, whatever processor that is for.
 *
 * Written against the functions themselves, because Debian ships QEMU without its header: these have been the same from
 * the first QEMU with plugins on (4.2). API is the version of the interface: 1 up to QEMU 8, 2 from 9 on.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifndef API
#define API 1
#endif

typedef uint64_t Id;
typedef struct qemu_plugin_tb Block; /* instructions that are always run to the end of them */

void qemu_plugin_register_vcpu_tb_trans_cb(Id, void (*)(Id, Block *));
void qemu_plugin_register_vcpu_tb_exec_cb(Block *, void (*)(unsigned int, void *), int, void *);
void qemu_plugin_register_atexit_cb(Id, void (*)(Id, void *), void *);
size_t qemu_plugin_tb_n_insns(const Block *);

int qemu_plugin_version = API;

static _Atomic uint64_t count; /* by all threads of the program */

static void run(unsigned int thread, void *size)
{
    (void)thread;
    atomic_fetch_add_explicit(&count, (uintptr_t)size, memory_order_relaxed);
}

static void translated(Id id, Block *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, run, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void ended(Id id, void *nothing)
{
    (void)id;
    (void)nothing;
    fprintf(stderr, "\n%" PRIu64 " instructions\n", atomic_load(&count));
}

int qemu_plugin_install(Id id, const void *about, int count_of_words, char **words)
{
    (void)about;
    (void)count_of_words;
    (void)words;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
