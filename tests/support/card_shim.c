/* A sound card with hands. Preloaded into a process, it stands between PortAudio and libasound.
 *
 *   CARD_UNPLUGGED=FILE   while FILE exists, every call on a PCM says that there is no such device
 *   CARD_VANISHED=FILE    while FILE exists, a PCM moves no more, wakes all threads that wait, and does not say why:
 *                         so does a real one whose card was pulled out, and PortAudio's blocking calls then spin for ever
 *   CARD_MICROPHONE=FIFO  the card has recorded what is in this FIFO; ALSA's file plugin says that there is always more
 *   CARD_SPEAKER=FIFO     the card has in its buffer what is in this FIFO, plays what is taken out, and forgets it all when
 *                         it is told to drop; PortAudio thinks that it writes to ALSA's null plugin
 *   CARD_RATE=48000       the card takes this rate only
 *   CARD_RATES=8000,16000 the card takes these only, and prefers the first
 *   CARD_CHANNELS=2       the card takes this many channels only
 *   CARD_MOST=2           the card says that it has this many channels at most; otherwise it says 128
 *
 * Build: gcc -shared -fPIC -o card_shim.so card_shim.c -ldl -Wl,--no-as-needed -lasound
 * (-lasound must stay: PyAudio loads libasound locally, and RTLD_NEXT finds it through this library only.)
 */
#define _GNU_SOURCE
#include <alsa/asoundlib.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int flagged(const char *name)
{
    const char *flag = getenv(name);
    return flag && access(flag, F_OK) == 0;
}

static int unplugged(void)
{
    return flagged("CARD_UNPLUGGED");
}

static int gone(void)
{
    return unplugged() || flagged("CARD_VANISHED");
}

static int waiting(int fifo)
{
    int bytes = 0;
    return ioctl(fifo, FIONREAD, &bytes) < 0 ? 0 : bytes;
}

/* How many bytes the microphone has recorded that were not read yet. */
static int recorded(void)
{
    static int fifo = -1;
    if (fifo < 0)
        fifo = open(getenv("CARD_MICROPHONE"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return waiting(fifo);
}

/* The loudspeaker's FIFO; -1 where PCM is none. */
static int speaker(snd_pcm_t *pcm)
{
    static int fifo = -1;
    if (!getenv("CARD_SPEAKER") || snd_pcm_stream(pcm) != SND_PCM_STREAM_PLAYBACK)
        return -1;
    if (fifo < 0)
        fifo = open(getenv("CARD_SPEAKER"), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    return fifo;
}

static unsigned limit(const char *name)
{
    const char *value = getenv(name);
    return value ? (unsigned)atoi(value) : 0;
}

/* A call that answers -ENODEV while the card is gone. */
#define GONE(type, name, parameters, arguments)   \
    type name parameters                          \
    {                                             \
        static __typeof__(&name) real;            \
        if (gone())                               \
            return -ENODEV;                       \
        if (!real)                                \
            real = REAL(name);                    \
        return real arguments;                    \
    }

GONE(int, snd_pcm_open, (snd_pcm_t **pcm, const char *name, snd_pcm_stream_t way, int mode), (pcm, name, way, mode))
GONE(int, snd_pcm_prepare, (snd_pcm_t *pcm), (pcm))
GONE(int, snd_pcm_start, (snd_pcm_t *pcm), (pcm))
GONE(int, snd_pcm_delay, (snd_pcm_t *pcm, snd_pcm_sframes_t *delay), (pcm, delay))
GONE(int, snd_pcm_status, (snd_pcm_t *pcm, snd_pcm_status_t *status), (pcm, status))
GONE(snd_pcm_sframes_t, snd_pcm_readi, (snd_pcm_t *pcm, void *to, snd_pcm_uframes_t size), (pcm, to, size))
GONE(int, snd_pcm_mmap_begin,
     (snd_pcm_t *pcm, const snd_pcm_channel_area_t **areas, snd_pcm_uframes_t *offset, snd_pcm_uframes_t *size),
     (pcm, areas, offset, size))

/* PortAudio has put samples into the card's buffer: they are interleaved, and the FIFO has room for all of it. */
snd_pcm_sframes_t snd_pcm_mmap_commit(snd_pcm_t *pcm, snd_pcm_uframes_t offset, snd_pcm_uframes_t size)
{
    const snd_pcm_channel_area_t *areas;
    snd_pcm_uframes_t at, all = size;
    int fifo = speaker(pcm);
    if (gone())
        return -ENODEV;
    if (fifo >= 0 && REAL(snd_pcm_mmap_begin)(pcm, &areas, &at, &all) >= 0) {
        const char *from = (const char *)areas->addr + (areas->first + areas->step * offset) / 8;
        size_t bytes = snd_pcm_frames_to_bytes(pcm, size);
        if (write(fifo, from, bytes) != (ssize_t)bytes)
            return -EPIPE;
    }
    return REAL(snd_pcm_mmap_commit)(pcm, offset, size);
}

/* Empty the loudspeaker's FIFO. */
static void forget(snd_pcm_t *pcm)
{
    char forgotten[4096];
    int fifo = speaker(pcm);
    while (fifo >= 0 && read(fifo, forgotten, sizeof forgotten) > 0)
        continue;
}

int snd_pcm_drop(snd_pcm_t *pcm)
{
    if (gone())
        return -ENODEV;
    forget(pcm);
    return REAL(snd_pcm_drop)(pcm);
}

snd_pcm_sframes_t snd_pcm_avail_update(snd_pcm_t *pcm)
{
    if (unplugged())
        return -ENODEV;
    snd_pcm_sframes_t all = gone() ? 0 : REAL(snd_pcm_avail_update)(pcm);
    if (all > 0 && speaker(pcm) >= 0) {
        snd_pcm_sframes_t taken = waiting(speaker(pcm)) / snd_pcm_frames_to_bytes(pcm, 1);
        return taken < all ? all - taken : 0;
    }
    if (all <= 0 || !getenv("CARD_MICROPHONE") || snd_pcm_stream(pcm) != SND_PCM_STREAM_CAPTURE)
        return all;
    snd_pcm_sframes_t there = recorded() / snd_pcm_frames_to_bytes(pcm, 1);
    return there < all ? there : all;
}

int snd_pcm_recover(snd_pcm_t *pcm, int error, int silent)
{
    return gone() ? error : REAL(snd_pcm_recover)(pcm, error, silent);
}

snd_pcm_state_t snd_pcm_state(snd_pcm_t *pcm)
{
    return gone() ? SND_PCM_STATE_DISCONNECTED : REAL(snd_pcm_state)(pcm);
}

/* Nothing tells when a FIFO of the card has a period, or room for one: null and file plugin are always ready. So a wait
 * sleeps for as long as the card needs for what is missing, and looks again. */

#define OWNERS 1024
static snd_pcm_t *owners[OWNERS]; /* whose descriptor that is */

/* How many frames of a period the card still has to move before PCM is ready; 0: it is. */
static snd_pcm_sframes_t missing(snd_pcm_t *pcm)
{
    snd_pcm_uframes_t buffer, period;
    snd_pcm_sframes_t there = snd_pcm_avail_update(pcm);
    if (there < 0 || snd_pcm_get_params(pcm, &buffer, &period) < 0 || there >= (snd_pcm_sframes_t)period)
        return 0;
    return (snd_pcm_sframes_t)period - there;
}

/* Sleep while the card moves so many FRAMES of PCM, MOST_MS at most; -1 where a signal came. */
static int sleep_while(snd_pcm_t *pcm, snd_pcm_sframes_t frames, long most_ms)
{
    snd_pcm_hw_params_t *params;
    unsigned rate = 0;
    snd_pcm_hw_params_alloca(&params);
    if (snd_pcm_hw_params_current(pcm, params) < 0 || snd_pcm_hw_params_get_rate(params, &rate, NULL) < 0 || !rate)
        return -1;
    long ms = (long)(1000 * frames / rate) + 1;
    struct timespec pause = {0, 1000000 * (ms < most_ms ? ms : most_ms)};
    return nanosleep(&pause, NULL);
}

int snd_pcm_poll_descriptors(snd_pcm_t *pcm, struct pollfd *polled, unsigned space)
{
    int count = REAL(snd_pcm_poll_descriptors)(pcm, polled, space);
    if (getenv("CARD_SPEAKER") && count == 1 && polled[0].fd >= 0 && polled[0].fd < OWNERS)
        owners[polled[0].fd] = pcm;
    return count;
}

int snd_pcm_poll_descriptors_revents(snd_pcm_t *pcm, struct pollfd *polled, unsigned count, unsigned short *events)
{
    if (gone())
        *events = POLLERR | POLLNVAL;
    else if (!getenv("CARD_SPEAKER"))
        return REAL(snd_pcm_poll_descriptors_revents)(pcm, polled, count, events);
    else
        *events = polled[0].revents ? (snd_pcm_stream(pcm) == SND_PCM_STREAM_PLAYBACK ? POLLOUT : POLLIN) : 0;
    return 0;
}

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1000 * now.tv_sec + now.tv_nsec / 1000000;
}

/* The same as poll, where all that is waited for is this card's. */
static int poll_fifos(struct pollfd *polled, nfds_t count, int timeout)
{
    long end = now_ms() + timeout;
    for (;;) {
        int ready = 0;
        snd_pcm_t *next = NULL;
        snd_pcm_sframes_t least = 0;
        for (nfds_t index = 0; index < count; index++) {
            snd_pcm_t *pcm = owners[polled[index].fd];
            snd_pcm_sframes_t frames = gone() ? 0 : missing(pcm);
            polled[index].revents = frames ? 0 : gone() ? POLLERR | POLLNVAL : polled[index].events;
            ready += !frames;
            if (frames && (!next || frames < least))
                next = pcm, least = frames;
        }
        long left = end - now_ms();
        if (ready || (timeout >= 0 && left <= 0))
            return ready;
        if (sleep_while(next, least, timeout >= 0 && left < 500 ? left : 500))
            return -1;
    }
}

int poll(struct pollfd *polled, nfds_t count, int timeout)
{
    static int (*real)(struct pollfd *, nfds_t, int);
    if (!real)
        real = REAL(poll);
    for (nfds_t index = 0; index < count; index++)
        if (polled[index].fd < 0 || polled[index].fd >= OWNERS || !owners[polled[index].fd])
            return real(polled, count, timeout);
    return count ? poll_fifos(polled, count, timeout) : real(polled, count, timeout);
}

static snd_pcm_t *written; /* by the call below */

/* What a program writes that lets ALSA do the waiting, as aplay does. */
snd_pcm_sframes_t snd_pcm_writei(snd_pcm_t *pcm, const void *from, snd_pcm_uframes_t size)
{
    const char *next = from;
    snd_pcm_uframes_t done = 0;
    if (gone())
        return -ENODEV;
    if (speaker(pcm) < 0)
        return REAL(snd_pcm_writei)(pcm, from, size);
    written = pcm;
    while (done < size) {
        snd_pcm_sframes_t room = snd_pcm_avail_update(pcm);
        if (room < 0)
            return room;
        if ((snd_pcm_uframes_t)room > size - done)
            room = (snd_pcm_sframes_t)(size - done);
        ssize_t bytes = snd_pcm_frames_to_bytes(pcm, room);
        if (!room && sleep_while(pcm, missing(pcm), 500))
            return done ? (snd_pcm_sframes_t)done : -EINTR;
        if (room && write(speaker(pcm), next, bytes) != bytes)
            return -EPIPE;
        if (room && REAL(snd_pcm_writei)(pcm, next, room) != room)
            return -EPIPE;
        next += bytes;
        done += room;
    }
    return (snd_pcm_sframes_t)done;
}

int snd_pcm_drain(snd_pcm_t *pcm)
{
    while (pcm == written && !gone() && waiting(speaker(pcm)))
        if (sleep_while(pcm, waiting(speaker(pcm)) / snd_pcm_frames_to_bytes(pcm, 1), 500))
            return -EINTR;
    return gone() ? -ENODEV : REAL(snd_pcm_drain)(pcm);
}

/* What a card still holds when it is closed is not heard. */
int snd_pcm_close(snd_pcm_t *pcm)
{
    for (int fd = 0; fd < OWNERS; fd++)
        if (owners[fd] == pcm)
            owners[fd] = NULL;
    if (pcm == written) {
        forget(pcm);
        written = NULL;
    }
    return REAL(snd_pcm_close)(pcm);
}

/* Return the rate that the card takes for RATE, that one or another. */
static unsigned taken(unsigned rate)
{
    const char *rates = getenv("CARD_RATES");
    unsigned first = limit("CARD_RATE");
    for (; rates && *rates; rates = strchr(rates, ',') ? strchr(rates, ',') + 1 : "") {
        first = first ? first : (unsigned)atoi(rates);
        if ((unsigned)atoi(rates) == rate)
            return rate;
    }
    return first ? first : rate;
}

int snd_pcm_hw_params_set_rate_near(snd_pcm_t *pcm, snd_pcm_hw_params_t *params, unsigned *rate, int *direction)
{
    *rate = taken(*rate);
    return REAL(snd_pcm_hw_params_set_rate_near)(pcm, params, rate, direction);
}

int snd_pcm_hw_params_set_channels(snd_pcm_t *pcm, snd_pcm_hw_params_t *params, unsigned channels)
{
    if (limit("CARD_CHANNELS") && channels != limit("CARD_CHANNELS"))
        return -EINVAL;
    return REAL(snd_pcm_hw_params_set_channels)(pcm, params, channels);
}

int snd_pcm_hw_params_get_channels_max(const snd_pcm_hw_params_t *params, unsigned *most)
{
    int error = REAL(snd_pcm_hw_params_get_channels_max)(params, most);
    if (limit("CARD_MOST") && !error)
        *most = limit("CARD_MOST");
    return error;
}
