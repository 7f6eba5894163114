// What a program in Java asks of a kernel: null pointers and deep stacks that are faults, threads, a small heap that is
// always full, files.
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.LockSupport;

public class Load {
    static Object nothing = null;

    /** Compiled code does not test for null: the processor faults, and the signal becomes the exception. */
    static int nullPointers() {
        int caught = 0;
        for (int i = 0; i < 200_000; i++) {
            try {
                Object object = i % 3 == 0 ? "something" : nothing;
                object.hashCode();
            } catch (NullPointerException e) {
                caught++;
            }
        }
        return caught;
    }

    static int endless(int depth) {
        return endless(depth + 1) + 1;
    }

    static int stackOverflows() throws InterruptedException {
        LongAdder caught = new LongAdder();
        Runnable dive = () -> {
            try {
                endless(0);
            } catch (StackOverflowError e) {
                caught.increment();
            }
        };
        dive.run();
        Thread thread = new Thread(null, dive, "diver", 512 << 10);
        thread.start();
        thread.join();
        return caught.intValue();
    }

    /** Far more than the heap holds, of which little is kept. */
    static long garbage(int seed) {
        Map<Integer, byte[]> kept = new HashMap<>();
        Random random = new Random(seed);
        long sum = 0;
        for (int i = 0; i < 20_000; i++) {
            byte[] bytes = new byte[1 + random.nextInt(4000)];
            bytes[bytes.length / 2] = (byte) i;
            kept.put(random.nextInt(500), bytes);
            sum += bytes.length;
        }
        for (byte[] bytes : kept.values()) {
            sum += bytes[bytes.length / 2];
        }
        return sum;
    }

    static long pool() throws Exception {
        var pool = Executors.newFixedThreadPool(8);
        List<Future<Long>> tasks = new ArrayList<>();
        for (int i = 0; i < 16; i++) {
            int seed = i;
            tasks.add(pool.submit(() -> garbage(seed)));
        }
        long sum = 0;
        for (Future<Long> task : tasks) {
            sum += task.get();
        }
        pool.shutdown();
        return pool.awaitTermination(10, TimeUnit.SECONDS) ? sum : -1;
    }

    static long contention() throws InterruptedException {
        var counters = new ConcurrentHashMap<String, LongAdder>();
        Object lock = new Object();
        long[] plain = {0};
        List<Thread> threads = new ArrayList<>();
        for (int t = 0; t < 4; t++) {
            Thread thread = new Thread(() -> {
                for (int i = 0; i < 25_000; i++) {
                    counters.computeIfAbsent("k" + i % 100, key -> new LongAdder()).increment();
                    synchronized (lock) {
                        plain[0]++;
                    }
                    if (i % 1000 == 0) {
                        LockSupport.parkNanos(100_000);
                    }
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        return plain[0] + counters.values().stream().mapToLong(LongAdder::sum).sum();
    }

    public static void main(String[] args) throws Exception {
        System.out.println("null pointers: " + nullPointers());
        System.out.println("stack overflows: " + stackOverflows());
        System.out.println("garbage: " + pool());
        System.out.println("contention: " + contention());
        Path file = Files.createTempFile("load", null);
        Files.writeString(file, "line\n".repeat(1000));
        System.out.println("lines: " + Files.readAllLines(file).size());
        Files.delete(file);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("shutdown hook")));
        System.exit(3);
    }
}
