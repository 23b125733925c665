/* A V4L2 camera without a kernel module: stands before libc (LD_PRELOAD) for one path, so that FFmpeg's own
 * V4L2 code runs against what a driver would answer. YUYV, 320x180, 25 frames per second, a moving ramp.
 *
 * FAKE_CAMERA names the path of the device; while the file FAKE_CAMERA_PLUG is not there, it is unplugged. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 320, HEIGHT = 180, SIZE = WIDTH * HEIGHT * 2, MOST = 32, STEP_NS = 40000000,
       ROOM = (SIZE + 4095) / 4096 * 4096 }; /* of a buffer: whole pages, for mmap */

static int camera = -1; /* its descriptor */
static unsigned char *memory;
static unsigned queued[MOST], first, count, frame;
static struct timespec due;

static int plugged(void) { return access(getenv("FAKE_CAMERA_PLUG"), F_OK) == 0; }

static int fail(int error) {
    errno = error;
    return -1;
}

static int open_camera(void) {
    if (!plugged())
        return fail(ENOENT);
    camera = memfd_create("camera", 0);
    if (camera < 0 || ftruncate(camera, (off_t)MOST * ROOM) < 0)
        return -1;
    memory = mmap(NULL, (size_t)MOST * ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, camera, 0);
    first = count = 0;
    return camera;
}

static void describe(struct v4l2_format *format) {
    format->fmt.pix = (struct v4l2_pix_format){
        .width = WIDTH, .height = HEIGHT, .pixelformat = V4L2_PIX_FMT_YUYV, .field = V4L2_FIELD_NONE,
        .bytesperline = 2 * WIDTH, .sizeimage = SIZE, .colorspace = V4L2_COLORSPACE_SRGB};
}

/* The next frame, when it is due. */
static int dequeue(struct v4l2_buffer *buffer) {
    if (!plugged())
        return fail(ENODEV);
    if (!count)
        return fail(EAGAIN);
    due.tv_nsec += STEP_NS;
    due.tv_sec += due.tv_nsec / 1000000000;
    due.tv_nsec %= 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
    buffer->index = queued[first];
    first = (first + 1) % MOST;
    count--;
    unsigned char *image = memory + (size_t)buffer->index * ROOM;
    for (int at = 0; at < SIZE; at += 2) {
        image[at] = 16 + (frame + at / 8) % 200;
        image[at + 1] = 128;
    }
    buffer->bytesused = SIZE;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    buffer->sequence = frame++;
    buffer->timestamp.tv_sec = due.tv_sec;
    buffer->timestamp.tv_usec = due.tv_nsec / 1000;
    return 0;
}

static int answer(unsigned long request, void *argument) {
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *able = argument;
        memset(able, 0, sizeof *able);
        able->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_G_INPUT:
        *(int *)argument = 0;
        return 0;
    case VIDIOC_S_INPUT:
        return 0;
    case VIDIOC_ENUMINPUT:
        ((struct v4l2_input *)argument)->std = 0;
        return 0;
    case VIDIOC_G_FMT:
    case VIDIOC_S_FMT:
        describe(argument);
        return 0;
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *parameters = argument;
        parameters->parm.capture.timeperframe = (struct v4l2_fract){1, 25};
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = argument;
        wanted->count = wanted->count > MOST ? MOST : wanted->count;
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *buffer = argument;
        buffer->length = SIZE;
        buffer->m.offset = buffer->index * ROOM;
        return 0;
    }
    case VIDIOC_QBUF:
        queued[(first + count++) % MOST] = ((struct v4l2_buffer *)argument)->index;
        return 0;
    case VIDIOC_STREAMON:
        clock_gettime(CLOCK_MONOTONIC, &due);
        return 0;
    case VIDIOC_STREAMOFF:
        return 0;
    case VIDIOC_DQBUF:
        return dequeue(argument);
    default:
        return fail(EINVAL);
    }
}

int open64(const char *path, int flags, ...) {
    static int (*next)(const char *, int, ...);
    va_list more;
    va_start(more, flags);
    unsigned mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, unsigned) : 0;
    va_end(more);
    const char *ours = getenv("FAKE_CAMERA");
    if (ours && strcmp(path, ours) == 0)
        return open_camera();
    if (!next)
        next = dlsym(RTLD_NEXT, "open64");
    return next(path, flags, mode);
}

int ioctl(int descriptor, unsigned long request, ...) {
    static int (*next)(int, unsigned long, ...);
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (descriptor >= 0 && descriptor == camera)
        return answer(request & 0xffffffff, argument);
    if (!next)
        next = dlsym(RTLD_NEXT, "ioctl");
    return next(descriptor, request, argument);
}
